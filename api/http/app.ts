import { randomUUID } from 'node:crypto';
import express, { type Express, type Router } from 'express';
import { collectDefaultMetrics, Histogram, Registry } from 'prom-client';
import type { Logger } from '../../activities/clients/log.ts';
import { renderErrors } from './errors.ts';

export interface AppOptions {
  program: string;
  log: Logger;
  routers: Router[];
  trustedProxies?: string[];
  registry?: Registry;
}

const LINGER_MS = 5_000;

/** The Express frame of every program: request ids, one log line a request, `/metrics`, JSON errors, 404 in our shape. */
export function createApp({
  program,
  log,
  routers,
  trustedProxies = ['loopback'],
  registry = new Registry(),
}: AppOptions): Express {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('trust proxy', trustedProxies);
  app.set('query parser', 'simple');
  collectDefaultMetrics({ register: registry });
  const durations = new Histogram({
    name: 'canopy_http_request_seconds',
    help: 'Time from request head to end of response',
    labelNames: ['program', 'method', 'route', 'status'],
    registers: [registry],
    buckets: [0.005, 0.02, 0.1, 0.5, 2, 10, 60],
  });
  app.use((req, res, next) => {
    res.locals.requestId = randomUUID();
    res.setHeader('x-request-id', res.locals.requestId as string);
    const startedAt = performance.now();
    res.once('close', () => {
      const durationMs = Math.round(performance.now() - startedAt);
      const route = `${req.baseUrl}${(req.route as { path?: string } | undefined)?.path ?? ''}` || 'unmatched';
      durations.observe({ program, method: req.method, route, status: res.statusCode }, durationMs / 1000);
      const fields = {
        event: 'http.request',
        method: req.method,
        path: req.path,
        status: res.statusCode,
        durationMs,
        requestId: res.locals.requestId,
      };
      if (res.statusCode >= 500) log.warn(fields, 'http.request');
      else log.debug(fields, 'http.request');
    });
    // Answered before the whole body came (413, 401 of an upload): a client that goes on sending is cut off.
    res.once('finish', () => {
      if (req.complete) return;
      const impatient = setTimeout(() => req.complete || req.destroy(), LINGER_MS).unref();
      req.once('close', () => clearTimeout(impatient));
    });
    next();
  });
  app.get(['/metrics', '/_metrics'], async (req, res) => {
    if (req.headers['x-forwarded-for']) return void res.status(403).json({ detail: 'metrics are for the inside' });
    res.type(registry.contentType).send(await registry.metrics());
  });
  for (const router of routers) app.use(router);
  app.use((_req, res) => void res.status(404).json({ detail: 'Not Found' }));
  app.use(renderErrors(log));
  return app;
}
