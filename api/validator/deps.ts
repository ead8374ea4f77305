import type { Client } from '@temporalio/client';
import type { Knex } from 'knex';
import type { Registry } from 'prom-client';
import type { Hotkey } from '../../activities/clients/hotkey.ts';
import type { Logger } from '../../activities/clients/log.ts';
import type { BlobStore } from '../../activities/clients/s3.ts';
import type { SecretBox } from '../../activities/clients/secret-box.ts';
import type { ValidatorConfig } from '../../workers/config/validator.ts';
import type { Auth } from './auth/auth.ts';

/** What every route factory of the validator API gets: `xRoutes(deps): Router`, paths absolute (`/images/`, …). */
export interface ValidatorDeps {
  config: ValidatorConfig;
  db: Knex;
  temporal: Client;
  blobs: BlobStore;
  box: SecretBox;
  hotkey: Hotkey;
  auth: Auth;
  log: Logger;
  registry: Registry;
}
