import { Router as expressRouter, type Express, type Router } from 'express';
import { createApp } from '../http/app.ts';
import { describedRoutes } from '../http/openapi.ts';
import { redirectSlashless } from '../http/slashes.ts';
import { apiKeyRoutes } from './api-keys/routes.ts';
import { consoleRoutes } from './console/routes.ts';
import type { ValidatorDeps } from './deps.ts';
import { openapiRoutes } from './openapi/routes.ts';
import { userRoutes } from './users/routes.ts';

/** The validator API: users, keys, console and documents here, the rest from `routers`, in that order. */
export function createValidatorApi(deps: ValidatorDeps, routers: Router[]): Express {
  const collections = describedRoutes()
    .filter(({ path }) => path.endsWith('/') && !/[:*]/.test(path))
    .map(({ path }) => path);
  return createApp({
    program: 'validator-api',
    log: deps.log,
    registry: deps.registry,
    trustedProxies: deps.config.CANOPY_TRUSTED_PROXIES,
    routers: [
      expressRouter().use(redirectSlashless(collections)),
      consoleRoutes(deps),
      openapiRoutes(deps),
      userRoutes(deps),
      apiKeyRoutes(deps),
      ...routers,
    ],
  });
}
