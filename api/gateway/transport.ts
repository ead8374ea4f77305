import { createHash } from 'node:crypto';
import { connect as connectTls } from 'node:tls';
import { Pool, type Dispatcher } from 'undici';
import type { LiveInstance } from './routing-table.ts';

export interface InstanceCall {
  method: string;
  /** path and query */
  path: string;
  headers: Record<string, string | string[]>;
  body: Buffer | null;
  /** aborting it closes the connection to the instance */
  signal: AbortSignal;
}
export type InstanceAnswer = Pick<Dispatcher.ResponseData, 'statusCode' | 'headers' | 'body'>;

/** How requests reach an instance. Throws `InstanceUnreachable` or the client's own error; never names host or port. */
export interface InstanceTransport {
  call(instance: LiveInstance, call: InstanceCall): Promise<InstanceAnswer>;
  /** Closes connections to instances that are gone. */
  keepOnly(instanceIds: ReadonlySet<string>): void;
  close(): Promise<void>;
}

/** The instance could not be talked to, in words that are safe to store and show. */
export class InstanceUnreachable extends Error {
  override readonly name = 'InstanceUnreachable';
}

export interface CanopyTransportOptions {
  connectTimeoutMs?: number;
  headTimeoutMs?: number;
  idleTimeoutMs?: number;
}

/** `canopy/1`: TLS 1.3, the certificate pinned before a byte of the request is written, a bearer secret, bodies verbatim. */
export function createCanopyTransport(options: CanopyTransportOptions = {}): InstanceTransport {
  const { connectTimeoutMs = 5_000, headTimeoutMs = 600_000, idleTimeoutMs = 600_000 } = options;
  const pools = new Map<string, { pool: Pool; key: string }>();

  const poolOf = (instance: LiveInstance): Pool => {
    const key = `${instance.host}:${instance.port}/${instance.certSha256}`;
    const known = pools.get(instance.instanceId);
    if (known?.key === key) return known.pool;
    void known?.pool.destroy().catch(() => {}); // closing what nobody uses any more
    const host = instance.host.includes(':') ? `[${instance.host}]` : instance.host;
    const pool = new Pool(`https://${host}:${instance.port}`, {
      connect: pinned(instance, connectTimeoutMs),
      headersTimeout: headTimeoutMs,
      bodyTimeout: idleTimeoutMs,
      pipelining: 1,
      allowH2: false,
      keepAliveTimeout: 4_000,
      keepAliveMaxTimeout: 60_000,
    });
    pools.set(instance.instanceId, { pool, key });
    return pool;
  };

  return {
    call: (instance, { method, path, headers, body, signal }) =>
      poolOf(instance).request({
        method,
        path,
        body,
        signal,
        headers: { ...headers, authorization: `Bearer ${instance.secret}` },
      }),
    keepOnly: (instanceIds) => {
      for (const [instanceId, { pool }] of pools) {
        if (instanceIds.has(instanceId)) continue;
        pools.delete(instanceId);
        void pool.close().catch(() => {}); // requests under way finish first
      }
    },
    close: async () => {
      await Promise.all([...pools.values()].map(({ pool }) => pool.destroy()));
      pools.clear();
    },
  };
}

type Connect = Extract<NonNullable<Pool.Options['connect']>, (...args: never[]) => void>;

/** The authorities of the web say nothing about a miner's machine: only the certificate shown at the claim is right. */
function pinned({ host, port, certSha256 }: LiveInstance, timeoutMs: number): Connect {
  return (_options, callback) => {
    const socket = connectTls({
      host,
      port,
      rejectUnauthorized: false,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['http/1.1'],
    });
    socket.setNoDelay(true);
    const late = setTimeout(() => fail('connecting took too long'), timeoutMs);
    const fail = (why: string, cause?: unknown): void => {
      clearTimeout(late);
      socket.removeListener('secureConnect', check);
      socket.destroy();
      callback(new InstanceUnreachable(why, { cause }), null);
    };
    const onError = (err: Error): void => fail('connection failed', err);
    const check = (): void => {
      clearTimeout(late);
      const shown = socket.getPeerX509Certificate()?.raw;
      if (!shown || createHash('sha256').update(shown).digest('hex') !== certSha256) {
        return fail('certificate is not the one of the claim');
      }
      socket.removeListener('error', onError);
      callback(null, socket);
    };
    socket.once('error', onError);
    socket.once('secureConnect', check);
  };
}
