import type { ProverEngine } from '../../../activities/clients/prover-engine.ts';
import type { DeviceInfo, LaunchClaim, PortMapping, VerifyAnswer } from '../../../workflows/domain/protocol/launch.ts';
import type { ClaimAnswer, LaunchProof } from '../../../workflows/domain/protocol/launch.ts';
import {
  CANOPY_TRANSPORT,
  INSTANCE_LOG_PORT,
  INSTANCE_PORT,
} from '../../../workflows/domain/protocol/canopy-transport.ts';
import { openSessionSecret } from '../../../workflows/domain/protocol/sealed-secret.ts';
import type { LaunchClient } from './launch-client.ts';
import { proveGpus } from './prove-gpus.ts';
import type { TransportIdentity } from './transport-identity.ts';

export const RUNTIME_VERSION = '0.1.0';

export interface LaunchOptions {
  client: LaunchClient;
  identity: TransportIdentity;
  devices: DeviceInfo[];
  host: string;
  ports: { primary: number; logging: number };
  extraPorts: PortMapping[];
  /** Unix ms after which the token is worthless */
  expiresAt: number;
  configId: string;
  engine: ProverEngine;
  /** aborted by SIGTERM */
  signal: AbortSignal;
}

export interface LaunchedInstance {
  answer: VerifyAnswer;
  sessionSecret: string;
}

/** Claim, proof by all GPUs at once, verification: ends with the chute's code, its secrets, and the session secret. */
export async function launchInstance(options: LaunchOptions): Promise<LaunchedInstance> {
  const { client, identity, expiresAt } = options;
  const claimed = await client.claim(claimOf(options), expiresAt);
  const proof = await prove(options, claimed);
  const answer = await client.verify(proof.body, proof.deadlineAt);
  const sharedSecret = identity.sharedSecretWith(claimed.canopy.validator_pubkey);
  const sessionSecret = openSessionSecret({
    sharedSecret,
    nonce2: proof.nonce2,
    proofs: proof.proofs,
    sealed: answer.canopy.sealed_secret,
  });
  return { answer, sessionSecret };
}

function claimOf({ devices, host, ports, extraPorts, identity }: LaunchOptions): LaunchClaim {
  return {
    gpus: devices,
    host,
    // Element 0 is the main port (spec/sdk-and-runtime.md §3.4 step 5).
    port_mappings: [
      { proto: 'tcp', internal_port: INSTANCE_PORT, external_port: ports.primary, default: true },
      { proto: 'tcp', internal_port: INSTANCE_LOG_PORT, external_port: ports.logging, default: true },
      ...extraPorts,
    ],
    // Closed dumps of the reference: required by the shape, empty of meaning here (§3.17).
    env: CANOPY_TRANSPORT,
    code: CANOPY_TRANSPORT,
    fsv: CANOPY_TRANSPORT,
    canopy: {
      transport: CANOPY_TRANSPORT,
      tls_cert: identity.certificate,
      transport_pubkey: identity.transportPublicKey,
      runtime_version: RUNTIME_VERSION,
    },
  };
}

interface Proof {
  body: LaunchProof;
  nonce2: string | null;
  proofs: { gpuUuid: string; root: string; digest: string }[];
  deadlineAt: number;
}

async function prove(
  { client, identity, configId, expiresAt, engine, signal }: LaunchOptions,
  { canopy: { proof } }: ClaimAnswer,
): Promise<Proof> {
  if (proof.plugin === 'none')
    return { body: { canopy: { openings: {} } }, nonce2: null, proofs: [], deadlineAt: expiresAt };
  const deadlineAt = Math.min(expiresAt, Date.now() + proof.deadline_ms);
  const { challenges } = proof;
  for (const { binding } of challenges) {
    // Work for another launch or another key would be lent out, not ours.
    if (binding.configId !== configId || binding.transportPublicKey !== identity.transportPublicKey)
      throw new Error('the challenge is not for this launch');
  }
  const { openings, ...proven } = await proveGpus({ client, challenges, engine, deadlineAt, signal });
  return { body: { canopy: { openings } }, deadlineAt, ...proven };
}

/** `CHUTES_PORT_{TCP,UDP,HTTP}_{internal}` as mappings, upper-case proto as in the name (spec/sdk-and-runtime.md §3.4 step 5). */
export function extraPortsOf(env: NodeJS.ProcessEnv): PortMapping[] {
  return Object.entries(env).flatMap(([name, value]) => {
    const [, proto, internal] = /^CHUTES_PORT_(TCP|UDP|HTTP)_([0-9]+)$/.exec(name) ?? [];
    if (!proto || !internal || !value) return [];
    return [{ proto, internal_port: Number(internal), external_port: Number(value), default: false }];
  });
}
