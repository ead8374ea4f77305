import { hasRole } from '../auth/users.ts';
import type { RefusalCode } from '../errors.ts';
import { hourlyPriceMicroUsd, supportedGpus } from '../gpus/node-selector.ts';
import { nodeSelectorOf, type NodeSelectorDocument } from './chute-definition.ts';

export const MAX_OPERATIONS_PER_DAY = 24;
const FEE_HOURS = 3;
const FEE_FREE = ['free_account', 'unlimited', 'unlimited_dev'] as const;
const OLDEST_SDK = [0, 3, 31] as const;
const UNLIMITED_USERNAMES = ['chutes', 'rayonlabs'];

/** What the checks look at. `image` is null when it does not exist or the caller may not use it. */
export interface DeployRequest {
  mode: 'development' | 'production';
  username: string;
  permissionsBitmask: number;
  operationsLastDay: number;
  balanceMicroUsd: number;
  acceptFee: boolean;
  public: boolean;
  version: string;
  nodeSelector: NodeSelectorDocument;
  standardTemplate: string | null;
  revision: string | null;
  image: { status: string; public: boolean; chutesVersion: string } | null;
  deployed: { version: string; public: boolean } | null;
  cordCount: number;
  jobCount: number;
  code: string;
}

export type DeployVerdict =
  | { kind: 'accepted'; feeMicroUsd: number }
  | { kind: 'refused'; code: RefusalCode; detail: string };
const no = (code: RefusalCode, detail: string): DeployVerdict => ({ kind: 'refused', code, detail });

/**
 * The deploy checks of spec/validator-api.md §2.4.5, in its order; the first that fails answers. Left out: partner-subnet names
 * (1), the advisory code review (3), and the single network's GPU policies (8 and 11). Code is checked to be there, not parsed.
 */
export function checkDeploy(request: DeployRequest): DeployVerdict {
  const { image, deployed, permissionsBitmask } = request;
  const unlimited = hasRole(permissionsBitmask, 'unlimited_dev') || UNLIMITED_USERNAMES.includes(request.username);
  if (!unlimited && request.operationsLastDay >= MAX_OPERATIONS_PER_DAY) {
    return no('rate.limited', `You may create, update or delete chutes ${MAX_OPERATIONS_PER_DAY} times per 24 hours.`);
  }
  if (request.public && !hasRole(permissionsBitmask, 'public_model_deployment'))
    return no('request.invalid', 'You are not allowed to deploy public chutes.');
  if (!image) return no('request.invalid', 'Image not found or not accessible.');
  if (image.status !== 'built and pushed') return no('request.invalid', `Image is not ready: ${image.status}`);
  if (request.public && !image.public) return no('resource.conflict', 'A public chute cannot use a private image.');
  if (deployed?.version === request.version && deployed.public === request.public) {
    return no('resource.conflict', `This chute is already deployed with version ${request.version}.`);
  }
  const feeMicroUsd = deployFeeMicroUsd(request);
  if (feeMicroUsd > 0 && !request.acceptFee) {
    return no(
      'balance.insufficient',
      `Deploying this chute costs ${(feeMicroUsd / 1_000_000).toFixed(2)} USD, three hours of its GPUs: confirm with --accept-fee.`,
    );
  }
  if (isBilled(request) && request.balanceMicroUsd <= feeMicroUsd) {
    return no(
      'balance.insufficient',
      `Your balance does not cover the deployment fee of ${(feeMicroUsd / 1_000_000).toFixed(2)} USD.`,
    );
  }
  if (supportedGpus(nodeSelectorOf(request.nodeSelector)).length === 0) {
    return no('request.invalid', 'node_selector matches no supported GPU.');
  }
  if (request.standardTemplate === 'vllm' && !request.revision)
    return no('request.invalid', 'Template vllm needs a revision.');
  if (!isAtLeast(image.chutesVersion, OLDEST_SDK)) {
    return no(
      'request.invalid',
      `Image was built with SDK ${image.chutesVersion}; ${OLDEST_SDK.join('.')} or newer is needed.`,
    );
  }
  if (request.code.trim() === '') return no('request.invalid', 'code is empty.');
  if (request.cordCount > 0 === request.jobCount > 0)
    return no('request.invalid', 'Exactly one of cords and jobs must be given.');
  if (request.jobCount > 0) return no('request.invalid', 'Jobs are not available on this network.');
  return { kind: 'accepted', feeMicroUsd };
}

/** Three hours of the GPUs, for the first deployment of a private chute by a user who pays (the price already counts the GPUs). */
export function deployFeeMicroUsd(
  request: Pick<DeployRequest, 'mode' | 'permissionsBitmask' | 'public' | 'deployed' | 'nodeSelector'>,
): number {
  if (!isBilled(request) || request.public || request.deployed) return 0;
  return FEE_HOURS * (hourlyPriceMicroUsd(nodeSelectorOf(request.nodeSelector)) ?? 0);
}

const isBilled = ({ mode, permissionsBitmask }: Pick<DeployRequest, 'mode' | 'permissionsBitmask'>): boolean =>
  mode === 'production' && !FEE_FREE.some((role) => hasRole(permissionsBitmask, role));

function isAtLeast(version: string, floor: readonly number[]): boolean {
  const parts = version.split(/[.+-]/).map(Number);
  for (const [index, wanted] of floor.entries()) {
    const part = parts[index] ?? 0;
    if (Number.isNaN(part) || part < wanted) return false;
    if (part > wanted) return true;
  }
  return true;
}
