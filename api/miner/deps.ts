import type { Client } from '@temporalio/client';
import type { Knex } from 'knex';
import type { Hotkey } from '../../activities/clients/hotkey.ts';
import type { Logger } from '../../activities/clients/log.ts';
import type { MinerWorkflows } from '../../activities/miner/miner-workflows.ts';
import type { DeploymentSettings } from '../../workflows/miner/deployments/messages.ts';
import type { ManagementAuth } from './management-auth.ts';

/** What every route factory of the miner API gets. */
export interface MinerDeps {
  db: Knex;
  temporal: Client;
  workflows: MinerWorkflows;
  hotkey: Hotkey;
  auth: ManagementAuth;
  log: Logger;
  validatorHotkey: string;
  /** short refs the validator supports; throws when it cannot be asked */
  supportedGpuRefs: () => Promise<string[]>;
  agentAnswers: (agentUrl: string) => Promise<boolean>;
  settings: DeploymentSettings;
  /** how often the add-node stream looks for news */
  progressPollMs?: number;
}
