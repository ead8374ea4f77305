import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { RUNTIME_HEADER, RUNTIME_REFUSED } from '../../../workflows/domain/protocol/canopy-transport.ts';
import { CERT_PEM, KEY_PEM } from './test-certificate.ts';

export interface FakeInstance {
  port: number;
  secret: string;
  certPem: string;
  certSha256: string;
  /** requests that reached the program behind TLS and bearer, bodies read */
  seen: { method: string; url: string; headers: IncomingMessage['headers']; body: string }[];
  /** connections on which bytes of a request arrived, whether or not it was let in */
  rawRequests: () => number;
  answer: (handler: Handler) => void;
  close: () => Promise<void>;
}
export type Handler = (req: IncomingMessage, res: ServerResponse, body: string) => void | Promise<void>;

/** `canopy/1` as an instance speaks it: TLS 1.3, a bearer secret, then whatever the test wants answered. */
export async function startFakeInstance(handler: Handler = chatHandler): Promise<FakeInstance> {
  const certSha256 = createHash('sha256').update(new X509Certificate(CERT_PEM).raw).digest('hex');
  const secret = randomBytes(32).toString('hex');
  const seen: FakeInstance['seen'] = [];
  let current = handler;
  let raw = 0;
  const server = createServer({ cert: CERT_PEM, key: KEY_PEM, minVersion: 'TLSv1.3' }, (req, res) => {
    raw += 1;
    if (req.headers.authorization !== `Bearer ${secret}`) return refuse(res, 401);
    const chunks: Buffer[] = [];
    req.on('data', (chunk: Buffer) => chunks.push(chunk));
    req.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      seen.push({ method: req.method ?? '', url: req.url ?? '', headers: req.headers, body });
      void current(req, res, body);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    secret,
    certPem: CERT_PEM,
    certSha256,
    seen,
    rawRequests: () => raw,
    answer: (next) => (current = next),
    close: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close').catch(() => {});
    },
  };
}

/** As the runtime in front of the chute says it. */
export const refuse = (res: ServerResponse, status: number): void =>
  void res.writeHead(status, { [RUNTIME_HEADER]: RUNTIME_REFUSED }).end('{}');

export const sse = (value: unknown): string => `data: ${typeof value === 'string' ? value : JSON.stringify(value)}\n\n`;
export const WORDS = ['The ', 'tree ', 'grows ', 'slowly.'];

/** An OpenAI-compatible engine that says the same four words. */
export const chatHandler: Handler = (_req, res, body) => {
  const request = JSON.parse(body || '{}') as {
    stream?: boolean;
    model?: string;
    stream_options?: { include_usage?: boolean };
  };
  const usage = { prompt_tokens: 7, completion_tokens: 4, total_tokens: 11 };
  const base = { id: 'chatcmpl-1', created: 1, model: request.model };
  if (!request.stream) {
    const choices = [{ index: 0, message: { role: 'assistant', content: WORDS.join('') }, finish_reason: 'stop' }];
    res
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ ...base, object: 'chat.completion', choices, usage }));
    return;
  }
  res.writeHead(200, { 'content-type': 'text/event-stream' });
  for (const content of WORDS)
    res.write(
      sse({
        ...base,
        object: 'chat.completion.chunk',
        choices: [{ index: 0, delta: { content }, finish_reason: null }],
      }),
    );
  res.write(
    sse({ ...base, object: 'chat.completion.chunk', choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] }),
  );
  if (request.stream_options?.include_usage)
    res.write(sse({ ...base, object: 'chat.completion.chunk', choices: [], usage }));
  res.end(sse('[DONE]'));
};
