import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import { NativeConnection, Runtime, Worker, type WorkerOptions } from '@temporalio/worker';
import { Registry, collectDefaultMetrics } from 'prom-client';
import { refusalInterceptor } from '../activities/refusal-interceptor.ts';
import type { Logger } from '../activities/clients/log.ts';

export interface RunWorkerOptions {
  program: string;
  temporalAddress: string;
  namespace: string;
  log: Logger;
  /** 0 picks a free port; `/metrics` and `/health` are served on loopback */
  metricsPort: number;
  worker: Omit<WorkerOptions, 'connection' | 'namespace'>[];
  close: () => Promise<void>;
}

/** Runs Temporal workers until SIGTERM or SIGINT, drains them, closes what the program holds. */
export async function runWorkers({
  program,
  temporalAddress,
  namespace,
  log,
  metricsPort,
  worker,
  close,
}: RunWorkerOptions): Promise<void> {
  Runtime.install({
    logger: {
      log: (level, message, meta) => log[LEVELS[level]](fieldsOf(meta), message),
      trace: (message, meta) => log.trace(fieldsOf(meta), message),
      debug: (message, meta) => log.debug(fieldsOf(meta), message),
      info: (message, meta) => log.info(fieldsOf(meta), message),
      warn: (message, meta) => log.warn(fieldsOf(meta), message),
      error: (message, meta) => log.error(fieldsOf(meta), message),
    },
    shutdownSignals: [],
  });
  const connection = await NativeConnection.connect({ address: temporalAddress });
  const workers = await Promise.all(
    worker.map((options) =>
      Worker.create({
        shutdownGraceTime: '10 seconds',
        ...options,
        connection,
        namespace,
        interceptors: {
          ...options.interceptors,
          activity: [() => ({ inbound: refusalInterceptor() }), ...(options.interceptors?.activity ?? [])],
        },
      }),
    ),
  );
  const metrics = await serveMetrics(metricsPort, () => workers.every((each) => each.getState() === 'RUNNING'));
  const stop = () => {
    for (const each of workers) if (each.getState() === 'RUNNING') each.shutdown();
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  log.info(
    { event: 'worker.started', program, namespace, queues: worker.map((each) => each.taskQueue) },
    'worker.started',
  );
  try {
    await Promise.all(workers.map((each) => each.run()));
  } finally {
    metrics.close();
    await close();
    await connection.close();
    log.info({ event: 'worker.stopped', program }, 'worker.stopped');
  }
}

const LEVELS = { TRACE: 'trace', DEBUG: 'debug', INFO: 'info', WARN: 'warn', ERROR: 'error' } as const;

/** The SDK's fields, its error under the name that is rendered with its stack and causes; task tokens mean nothing to a reader. */
function fieldsOf({ error, taskToken: _token, ...meta }: Record<string | symbol, unknown> = {}): Record<
  string,
  unknown
> {
  return error === undefined ? meta : { ...meta, err: error };
}

/** `/metrics` and `/health` of a program that serves nothing else. */
export async function serveMetrics(port: number, isHealthy: () => boolean, registry = new Registry()): Promise<Server> {
  collectDefaultMetrics({ register: registry });
  const server = createServer((req, res) => {
    if (req.url === '/health') {
      const healthy = isHealthy();
      res.writeHead(healthy ? 200 : 503, { 'content-type': 'application/json' }).end(JSON.stringify({ healthy }));
    } else if (req.url === '/metrics') {
      void registry.metrics().then((text) => res.writeHead(200, { 'content-type': registry.contentType }).end(text));
    } else res.writeHead(404).end();
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  server.unref();
  return server;
}
