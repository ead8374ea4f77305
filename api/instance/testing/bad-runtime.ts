import type { DeviceInfo, LaunchClaim, VerifyAnswer } from '../../../workflows/domain/protocol/launch.ts';
import type { PovwChallenge } from '../../../workflows/domain/proof/messages.ts';
import { openingsToBinary } from '../../../workflows/domain/proof/openings-binary.ts';
import { seedOf } from '../../../workflows/domain/proof/povw-hashes.ts';
import { createProver, type Prover } from '../../../workflows/domain/proof/prover.ts';
import { openSessionSecret } from '../../../workflows/domain/protocol/sealed-secret.ts';
import { LaunchClient } from '../launch/launch-client.ts';
import { createTransportIdentity } from '../launch/transport-identity.ts';
import { readLaunchToken } from '../launch/launch-token.ts';
import { pino } from 'pino';

/** How a runtime can misbehave in a launch (spec/sdk-and-runtime.md §6.2). */
export type LaunchFault =
  | 'wrong_root'
  | 'wrong_digest'
  | 'wrong_openings'
  | 'missing_openings'
  | 'wrong_openings_hash'
  | 'duplicate_gpu'
  | 'foreign_gpu'
  | 'missing_gpu'
  | 'wrong_host'
  | 'wrong_transport_key'
  | 'no_certificate';

export interface BadRuntimeOptions {
  token: string;
  devices: DeviceInfo[];
  host: string;
  ports: { primary: number; logging: number };
  fault?: LaunchFault;
}

const flip = (hex: string): string => (hex.startsWith('0') ? '1' : '0') + hex.slice(1);

/**
 * A launch conversation step by step, right but for one fault, for tests of whoever is on the other side. Refusals come
 * as `LaunchRefused` with their status. Skip or delay any step by not calling it, or calling it late.
 */
export function createBadRuntime({ token, devices, host, ports, fault }: BadRuntimeOptions) {
  const claims = readLaunchToken(token);
  const identity = createTransportIdentity(`${claims.sub}.int.canopy`);
  const client = new LaunchClient({
    url: claims.url,
    token,
    log: pino({ level: 'silent' }),
    signal: new AbortController().signal,
  });
  const never = 0; // no second try: the first answer is what a test looks at
  const provers = new Map<string, { prover: Prover; challenge: PovwChallenge }>();
  const roots: Record<string, string> = {};
  let walks: Record<string, { digest: string; trace_root: string }> = {};
  let nonce2: string | null = null;
  let validatorKey = '';
  let samples: Awaited<ReturnType<LaunchClient['walk']>>['samples'] = {};

  const gpus = (): DeviceInfo[] => {
    const [first] = devices;
    if (!first) return [];
    if (fault === 'duplicate_gpu') return [first, ...devices];
    if (fault === 'foreign_gpu') return [{ ...first, uuid: 'f'.repeat(32) }, ...devices.slice(1)];
    return fault === 'missing_gpu' ? devices.slice(1) : devices;
  };
  return {
    identity,
    async claim() {
      const canopy: NonNullable<LaunchClaim['canopy']> = {
        transport: 'canopy/1',
        tls_cert: fault === 'no_certificate' ? 'none' : identity.certificate,
        transport_pubkey: fault === 'wrong_transport_key' ? 'zz' : identity.transportPublicKey,
        runtime_version: 'bad',
      };
      const answer = await client.claim(
        {
          gpus: gpus(),
          host: fault === 'wrong_host' ? '203.0.113.9' : host,
          port_mappings: [
            { proto: 'tcp', internal_port: 8000, external_port: ports.primary, default: true },
            { proto: 'tcp', internal_port: 8001, external_port: ports.logging, default: true },
          ],
          env: 'canopy/1',
          code: 'canopy/1',
          canopy,
        },
        never,
      );
      validatorKey = answer.canopy.validator_pubkey;
      if (answer.canopy.proof.plugin !== 'none')
        for (const challenge of answer.canopy.proof.challenges)
          provers.set(challenge.binding.gpuUuid, { prover: createProver(challenge), challenge });
      return answer;
    },
    async commit() {
      for (const [uuid, { prover }] of provers)
        roots[uuid] = fault === 'wrong_root' ? flip(prover.commit().root) : prover.commit().root;
      const answer = await client.commit({ roots }, never);
      nonce2 = answer.nonce2;
      return answer;
    },
    async walk() {
      walks = Object.fromEntries([...provers].map(([uuid, { prover }]) => [uuid, prover.walk(nonce2 ?? '')]));
      if (fault === 'wrong_digest')
        walks = Object.fromEntries(
          Object.entries(walks).map(([uuid, walk]) => [uuid, { ...walk, digest: flip(walk.digest) }]),
        );
      const answer = await client.walk({ walks }, never);
      samples = answer.samples;
      return answer;
    },
    async verify(): Promise<VerifyAnswer & { sessionSecret: string }> {
      const openings: Record<string, string> = {};
      for (const [uuid, { prover, challenge }] of provers) {
        if (fault === 'missing_openings') break;
        const asked = samples[uuid] ?? { fill: [], walk: [] };
        // Right openings of the wrong places.
        const opened =
          fault === 'wrong_openings' ? { fill: asked.fill.toReversed(), walk: asked.walk.toReversed() } : asked;
        const by = { profile: challenge.profile, seed: seedOf(challenge.binding), samples: opened };
        const bytes = openingsToBinary(by, prover.open(opened)) ?? new Uint8Array();
        const sha256 = await client.putOpenings(uuid, bytes, never);
        openings[uuid] = fault === 'wrong_openings_hash' ? flip(sha256) : sha256;
      }
      const answer = await client.verify({ canopy: { openings } }, never);
      const proofs = Object.entries(walks).map(([gpuUuid, { digest }]) => ({
        gpuUuid,
        root: roots[gpuUuid] ?? '',
        digest,
      }));
      const sharedSecret = identity.sharedSecretWith(validatorKey);
      return {
        ...answer,
        sessionSecret: openSessionSecret({ sharedSecret, nonce2, proofs, sealed: answer.canopy.sealed_secret }),
      };
    },
    activate: () => client.activate(),
  };
}
