import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { openingsToBinary } from '../../../../workflows/domain/proof/openings-binary.ts';
import { seedOf } from '../../../../workflows/domain/proof/povw-hashes.ts';
import type { OpeningsRefs, ProofPluginName, ProofSession } from '../../../../workflows/domain/proof/plugin.ts';
import { PROFILES } from '../../../../workflows/domain/proof/profiles.ts';
import { createProver } from '../../../../workflows/domain/proof/prover.ts';
import { createProofSessionActivities } from '../proof-session-activities.ts';

export const GPU_A = 'a'.repeat(32);
export const GPU_B = 'b'.repeat(32);
export const BEGIN = {
  plugin: 'povw' as ProofPluginName,
  configId: 'config',
  minerHotkey: 'miner',
  transportPublicKey: '0'.repeat(64),
  gpus: [GPU_A, GPU_B].map((uuid) => ({ uuid, gpuType: 'h100', vramBytes: 80e9 })),
};

/** A bucket in memory; what was put can be bent. */
export class Blobs {
  readonly objects = new Map<string, Buffer>();
  readonly streamed: string[] = [];
  putByContent = async (prefix: string, body: Uint8Array | string) => {
    const bytes = Buffer.from(body);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    this.objects.set(`${prefix}/${sha256}`, bytes);
    return { key: `${prefix}/${sha256}`, sha256, sizeBytes: bytes.length };
  };
  delete = async (key: string): Promise<void> => void this.objects.delete(key);
  stream = async (key: string): Promise<Readable | null> => {
    this.streamed.push(key);
    const bytes = this.objects.get(key);
    return bytes ? Readable.from([bytes.subarray(0, 100), bytes.subarray(100)]) : null;
  };
}

/** The whole conversation of two honest small GPUs, their openings put. */
export async function proven(
  blobs: Blobs,
  plugin: ProofPluginName = 'povw',
): Promise<{ session: ProofSession; openings: OpeningsRefs }> {
  const steps = createProofSessionActivities({ profileFor: () => PROFILES['tiny-b'] });
  const begun = await steps.beginProof({ ...BEGIN, plugin });
  const provers = begun.challenges.map((challenge) => ({ challenge, prover: createProver(challenge) }));
  const each = <Value>(of: (one: (typeof provers)[number]) => Value): Record<string, Value> =>
    Object.fromEntries(provers.map((one) => [one.challenge.binding.gpuUuid, of(one)]));
  const roots = each(({ prover }) => prover.commit().root);
  const committed = await steps.acceptCommit({ session: begun, roots, elapsedMs: 5 });
  const walks = each(({ prover }) => prover.walk(committed.nonce2 ?? ''));
  const session = await steps.acceptWalk({ session: committed, walks, elapsedMs: 5 });
  const openings: OpeningsRefs = {};
  for (const { challenge, prover } of provers) {
    const uuid = challenge.binding.gpuUuid;
    const samples = session.samples?.[uuid] ?? { fill: [], walk: [] };
    const by = { profile: challenge.profile, seed: seedOf(challenge.binding), samples };
    const bytes = openingsToBinary(by, prover.open(samples));
    if (!bytes) throw new Error('honest openings have a binary form');
    const { key, sha256 } = await blobs.putByContent('proofs', bytes);
    openings[uuid] = { key, sha256 };
  }
  return { session, openings };
}
