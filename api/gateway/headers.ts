import type { IncomingHttpHeaders } from 'node:http';
import { HOP_BY_HOP, namedByConnection } from '../../workflows/domain/protocol/hop-by-hop.ts';

/** What a client could lie in about where it comes from. */
export const FORWARDED = new Set([
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'x-forwarded-port',
  'x-real-ip',
]);

/** The caller's credentials, address and encodings stay here: an instance is somebody else's machine. */
const NOT_FOR_INSTANCES = new Set([
  'host',
  'authorization',
  'content-length',
  'cookie',
  'accept-encoding',
  'x-api-key',
  'x-chutes-hotkey',
  'x-chutes-signature',
  'x-chutes-nonce',
  'x-chutes-trace',
  'x-enable-thinking',
]);
/** An instance may not speak for our domain, nor set what the gateway says itself. */
const NOT_FROM_INSTANCES = new Set([
  'set-cookie',
  'strict-transport-security',
  'alt-svc',
  'server',
  'x-chutes-invocationid',
  'x-chutes-quota-total',
  'x-chutes-quota-used',
  'x-chutes-quota-remaining',
]);

type Headers = Record<string, string | string[]>;

const keep = (headers: IncomingHttpHeaders, dropped: (name: string) => boolean): Headers => {
  const named = namedByConnection(headers.connection);
  const kept: Headers = {};
  for (const name in headers) {
    const value = headers[name];
    if (value !== undefined && !HOP_BY_HOP.has(name) && !named.has(name) && !dropped(name)) kept[name] = value;
  }
  return kept;
};

export const headersForInstance = (headers: IncomingHttpHeaders): Headers =>
  keep(headers, (name) => NOT_FOR_INSTANCES.has(name) || FORWARDED.has(name) || name.startsWith('x-canopy-'));
export const headersFromInstance = (headers: IncomingHttpHeaders): Headers =>
  keep(headers, (name) => NOT_FROM_INSTANCES.has(name) || name.startsWith('x-canopy-'));
