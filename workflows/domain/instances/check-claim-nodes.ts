import type { RefusalCode } from '../errors.ts';
import { supportedGpus, type NodeSelector } from '../gpus/node-selector.ts';
import { TRUST_LEVELS, type TrustLevel } from '../proof/messages.ts';

/** One GPU of the inventory, as a claim is held against it. `gpu` is a ref of the GPU table. */
export interface ClaimableNode {
  uuid: string;
  minerHotkey: string;
  gpu: string;
  isVerified: boolean;
  trustLevel: TrustLevel;
  verificationHost: string;
  instanceId: string | null;
}

export interface NodeClaim {
  gpuUuids: readonly string[];
  host: string;
  minerHotkey: string;
  selector: NodeSelector;
  minimumTrustLevel: TrustLevel;
}

export interface ClaimProblem {
  code: RefusalCode;
  detail: string;
}

/**
 * What is wrong with the GPUs of a claim, first fault first, or null (spec/validator-api.md §2.6.2, in its order):
 * duplicates, count, ownership, verification, assignment, selector, host; then the trust the chute asks for.
 */
export function whyNodesRefused(claim: NodeClaim, nodes: readonly ClaimableNode[]): ClaimProblem | null {
  const { gpuUuids, host, minerHotkey, selector, minimumTrustLevel } = claim;
  if (new Set(gpuUuids).size !== gpuUuids.length) return invalid('a GPU is named more than once');
  if (gpuUuids.length !== selector.gpuCount) {
    return invalid(`the chute runs on ${selector.gpuCount} GPUs, ${gpuUuids.length} are offered`);
  }
  const owned = new Map(nodes.filter((node) => node.minerHotkey === minerHotkey).map((node) => [node.uuid, node]));
  const unknown = gpuUuids.find((uuid) => !owned.has(uuid));
  if (unknown !== undefined) return { code: 'resource.not_found', detail: `GPU ${unknown} is not in your inventory` };
  const offered = [...owned.values()].filter((node) => gpuUuids.includes(node.uuid));
  const supported = supportedGpus(selector).map((type) => type.ref);
  const trust = TRUST_LEVELS.indexOf(minimumTrustLevel);
  return (
    firstOf(
      offered,
      (node) => !node.isVerified,
      (uuid) => invalid(`GPU ${uuid} is not verified`),
    ) ??
    firstOf(offered, (node) => node.instanceId !== null, nodeTaken) ??
    firstOf(
      offered,
      (node) => !supported.includes(node.gpu),
      (uuid) => invalid(`GPU ${uuid} does not match the chute`),
    ) ??
    firstOf(
      offered,
      (node) => node.gpu !== offered[0]?.gpu,
      (uuid) => invalid(`GPU ${uuid} is of another type: the GPUs of an instance are timed together`),
    ) ??
    firstOf(
      offered,
      (node) => node.verificationHost.toLowerCase() !== host.toLowerCase(),
      (uuid) => invalid(`GPU ${uuid} was not verified on host ${host}`),
    ) ??
    firstOf(
      offered,
      (node) => TRUST_LEVELS.indexOf(node.trustLevel) < trust,
      (uuid) => invalid(`GPU ${uuid} is below trust level ${minimumTrustLevel}, which the chute asks for`),
    )
  );
}

export const nodeTaken = (uuid: string): ClaimProblem => ({
  code: 'resource.conflict',
  detail: `GPU ${uuid} already runs an instance`,
});

const invalid = (detail: string): ClaimProblem => ({ code: 'request.invalid', detail });

function firstOf(
  nodes: readonly ClaimableNode[],
  isBad: (node: ClaimableNode) => boolean,
  problem: (uuid: string) => ClaimProblem,
): ClaimProblem | null {
  const bad = nodes.find(isBad);
  return bad ? problem(bad.uuid) : null;
}
