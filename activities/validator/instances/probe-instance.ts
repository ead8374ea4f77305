import { createHash } from 'node:crypto';
import { request, type IncomingMessage } from 'node:http';
import { connect, type TLSSocket } from 'node:tls';
import { once } from 'node:events';
import { INSTANCE_PATHS } from '../../../workflows/domain/protocol/canopy-transport.ts';

export interface ProbeTarget {
  host: string;
  port: number;
  tlsCertSha256: string;
  secret: string;
}

const WITHIN_MS = 6_000;
const MAX_ANSWER_BYTES = 16_384;

/**
 * One look at an instance: TLS 1.3 with the pinned leaf, then `GET /_canopy/health` with the session secret, which is sent
 * only after the pin matched. Null when it serves; else what was seen instead, safe to record.
 */
export async function whyNotServing(target: ProbeTarget, signal: AbortSignal): Promise<string | null> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(WITHIN_MS)]);
  let socket: TLSSocket | null = null;
  try {
    socket = await pinnedSocket(target, limit);
    const { status, body } = await get(socket, target, limit);
    if (status !== 200) return `health answered ${status}`;
    return /"ready"\s*:\s*true/.test(body) && !/"draining"\s*:\s*true/.test(body)
      ? null
      : 'health says it is not ready';
  } catch (err) {
    signal.throwIfAborted(); // our own cancel says nothing about the instance
    return limit.aborted ? `no answer in ${WITHIN_MS / 1000} s` : wordOf(err);
  } finally {
    socket?.destroy();
  }
}

async function pinnedSocket({ host, port, tlsCertSha256 }: ProbeTarget, signal: AbortSignal): Promise<TLSSocket> {
  // The pin replaces the chain: the leaf is self-signed and its name means nothing.
  const socket = connect({ host, port, minVersion: 'TLSv1.3', rejectUnauthorized: false });
  socket.on('error', () => {}); // `once` below tells; one that comes after it must not end the program
  try {
    await once(socket, 'secureConnect', { signal });
  } catch (err) {
    socket.destroy();
    throw err;
  }
  if (createHash('sha256').update(socket.getPeerCertificate().raw).digest('hex') === tlsCertSha256) return socket;
  socket.destroy();
  throw new Error('certificate is not the pinned one');
}

async function get(
  socket: TLSSocket,
  { host, secret }: ProbeTarget,
  signal: AbortSignal,
): Promise<{ status: number; body: string }> {
  const call = request({
    createConnection: () => socket,
    path: INSTANCE_PATHS.health,
    signal,
    headers: { host, authorization: `Bearer ${secret}`, connection: 'close' },
  });
  call.on('error', () => {});
  call.end();
  const [response] = (await once(call, 'response', { signal })) as [IncomingMessage];
  let body = '';
  for await (const chunk of response) {
    body += String(chunk);
    if (body.length > MAX_ANSWER_BYTES) throw new Error('health answer is too long');
  }
  return { status: response.statusCode ?? 0, body };
}

const wordOf = (err: unknown): string => {
  if (typeof err !== 'object' || err === null) return 'unreachable';
  if ('code' in err && typeof err.code === 'string') return err.code;
  return 'message' in err && typeof err.message === 'string' ? err.message : 'unreachable';
};
