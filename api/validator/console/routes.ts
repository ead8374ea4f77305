import { Router } from 'express';
import { z } from 'zod';
import { readOverview } from '../../../activities/validator/console/overview-store.ts';
import { describeRoute } from '../../http/openapi.ts';
import type { ValidatorDeps } from '../deps.ts';
import { PAGE_HEADERS } from './page.ts';
import { renderLanding } from './landing.ts';
import { checkParts, isDatabaseUp, listedServices } from './services.ts';

/** `/`, `/ping` and `/health` (spec/validator-api.md §2.0). */
export function consoleRoutes(deps: ValidatorDeps): Router {
  const { config, db } = deps;
  const router = Router();
  router.use((req, res, next) => {
    if (req.path === '/' || req.path === '/docs') res.set(PAGE_HEADERS);
    next();
  });

  router.get('/', async (req, res) => {
    const [parts, services] = await Promise.all([checkParts(deps), listedServices(config.CANOPY_SERVICES)]);
    const overview = parts.postgres ? await readOverview(db) : null; // the page still says what is down
    res
      .set('cache-control', 'no-store')
      .type('html')
      .send(
        renderLanding({
          url: config.CANOPY_PUBLIC_URL,
          temporalUiUrl: config.CANOPY_TEMPORAL_UI_URL ?? null,
          proof: config.CANOPY_PROOF,
          isInside: !req.headers['x-forwarded-for'],
          parts,
          services,
          overview,
          now: new Date(),
        }),
      );
  });

  router.get('/ping', async (_req, res) => {
    if (await isDatabaseUp(deps)) res.json({ message: 'pong' });
    else res.status(503).json({ detail: 'database is unreachable' });
  });

  router.get('/health', async (_req, res) => {
    const parts = await checkParts(deps);
    const healthy = Object.values(parts).every(Boolean);
    res.status(healthy ? 200 : 503).json({ healthy, ...parts });
  });
  return router;
}

describeRoute({
  method: 'get',
  path: '/ping',
  summary: 'Whether the API and its database answer',
  auth: 'none',
  response: z.object({ message: z.string() }),
});
describeRoute({
  method: 'get',
  path: '/health',
  summary: 'Each part the API stands on',
  auth: 'none',
  response: z.object({ healthy: z.boolean(), postgres: z.boolean(), temporal: z.boolean(), s3: z.boolean() }),
});
