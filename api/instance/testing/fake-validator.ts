import { createServer, type IncomingMessage } from 'node:http';
import { createHash, createPublicKey, diffieHellman, generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { drawSamples } from '../../../workflows/domain/proof/draw-samples.ts';
import type { GpuVerdict, PovwChallenge, PovwProfile } from '../../../workflows/domain/proof/messages.ts';
import { openingsFromBinary } from '../../../workflows/domain/proof/openings-binary.ts';
import { seedOf } from '../../../workflows/domain/proof/povw-hashes.ts';
import { PROFILES } from '../../../workflows/domain/proof/profiles.ts';
import { verifyOpenings } from '../../../workflows/domain/proof/verify-openings.ts';
import type {
  LaunchClaim,
  LaunchProof,
  PovwCommit,
  PovwWalk,
  PovwWalkAnswer,
} from '../../../workflows/domain/protocol/launch.ts';
import { sealSessionSecret } from '../../../workflows/domain/protocol/sealed-secret.ts';

export type Step = 'claim' | 'commit' | 'walk' | 'openings' | 'verify' | 'activate';
/** An answer in place of the right one, or `hang up` before answering. */
export type Override = { status: number; body: unknown } | 'hang up' | null;

export interface FakeValidatorOptions {
  plugin?: 'none' | 'simulated';
  /** of every challenge; default tiny-a */
  profile?: PovwProfile;
  /** what the chute is, in the answer to the PUT */
  chute: { code: string; filename: string; refStr?: string; concurrency?: number; secrets?: Record<string, string> };
  /** `attempt` counts from 0 within one step */
  override?: (step: Step, attempt: number) => Override;
}

export const CONFIG_ID = '6f9619ff-8b86-4d01-b42d-00c04fc964ff';

/** The validator's half of one launch, in memory, with real proofs and real sealing: for tests of the runtime. */
export async function startFakeValidator({
  plugin = 'simulated',
  profile = PROFILES['tiny-a'],
  chute,
  override = () => null,
}: FakeValidatorOptions) {
  const exchange = generateKeyPairSync('x25519');
  const sessionSecret = randomBytes(16).toString('hex');
  const nonce2 = randomBytes(32).toString('hex');
  const steps: Step[] = [];
  const state: {
    claim?: LaunchClaim;
    challenges: PovwChallenge[];
    roots: PovwCommit['roots'];
    walks: PovwWalk['walks'];
    samples: PovwWalkAnswer['samples'];
    /** as they were put, by GPU uuid */
    openings: Record<string, Buffer>;
    verdicts: GpuVerdict[];
  } = { challenges: [], roots: {}, walks: {}, samples: {}, openings: {}, verdicts: [] };

  /** The openings named by the proof, if they are the ones that were put. */
  const opened = ({ binding, profile }: PovwChallenge, proof: LaunchProof): unknown => {
    const { gpuUuid } = binding;
    const bytes = state.openings[gpuUuid];
    if (!bytes || sha256(bytes) !== proof.canopy?.openings[gpuUuid]) return null;
    return openingsFromBinary({ profile, seed: seedOf(binding), samples: samplesOf(gpuUuid) }, bytes);
  };
  const samplesOf = (gpuUuid: string) => state.samples[gpuUuid] ?? { fill: [], walk: [] };

  const answer = (step: Step, body: unknown, gpuUuid: string): unknown => {
    switch (step) {
      case 'claim': {
        const claim = (state.claim = body as LaunchClaim);
        state.challenges = claim.gpus.map(({ uuid }) => ({
          profile,
          binding: {
            validatorNonce: 'ab'.repeat(32),
            configId: CONFIG_ID,
            minerHotkey: '5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',
            gpuUuid: uuid,
            gpuType: 'h100_sxm',
            vramBytes: 85_899_345_920,
            transportPublicKey: claim.canopy?.transport_pubkey ?? '',
          },
        }));
        return {
          seed: 1,
          iterations: 1,
          job_id: null,
          symmetric_key: { ciphertext: '', uuid: '', response_plaintext: '' },
          canopy: {
            transport: 'canopy/1',
            validator_pubkey: Buffer.from(exchange.publicKey.export({ format: 'jwk' }).x ?? '', 'base64url').toString(
              'hex',
            ),
            proof: plugin === 'none' ? { plugin } : { plugin, challenges: state.challenges, deadline_ms: 30_000 },
          },
        };
      }
      case 'commit':
        state.roots = (body as PovwCommit).roots;
        return { nonce2 };
      case 'walk':
        state.walks = (body as PovwWalk).walks;
        state.samples = Object.fromEntries(
          state.challenges.map(({ binding, profile }) => [binding.gpuUuid, drawSamples(profile, randomBytes(32))]),
        );
        return { samples: state.samples };
      case 'openings':
        state.openings[gpuUuid] = body as Buffer;
        return { sha256: sha256(body as Buffer) };
      case 'verify': {
        state.verdicts = state.challenges.map((challenge) => {
          const uuid = challenge.binding.gpuUuid;
          return verifyOpenings({
            challenge,
            root: state.roots[uuid],
            nonce2,
            walk: state.walks[uuid],
            samples: samplesOf(uuid),
            openings: opened(challenge, body as LaunchProof),
          });
        });
        const x = Buffer.from(state.claim?.canopy?.transport_pubkey ?? '', 'hex').toString('base64url');
        const publicKey = createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'X25519', x } });
        return {
          chute_id: '2b3a4c5d-0000-5000-8000-000000000001',
          instance_id: '2b3a4c5d-0000-4000-8000-000000000002',
          verified_at: new Date().toISOString(),
          activation_url: `${url}/activate`,
          code: chute.code,
          fs_key: '',
          efs: false,
          secrets: chute.secrets ?? {},
          job_id: null,
          job_method: null,
          job_data: null,
          job_status_url: null,
          canopy: {
            sealed_secret: sealSessionSecret({
              secret: sessionSecret,
              nonce: randomBytes(12),
              sharedSecret: diffieHellman({ privateKey: exchange.privateKey, publicKey }),
              nonce2: plugin === 'none' ? null : nonce2,
              proofs:
                plugin === 'none'
                  ? []
                  : Object.entries(state.walks).map(([gpuUuid, { digest }]) => ({
                      gpuUuid,
                      root: state.roots[gpuUuid] ?? '',
                      digest,
                    })),
            }),
            concurrency: chute.concurrency ?? 2,
            filename: chute.filename,
            ref_str: chute.refStr ?? 'chute:chute',
            trust_level: plugin,
          },
        };
      }
      case 'activate':
        return { ok: true };
    }
  };

  const server = createServer((req, res) => {
    void readBody(req).then((body) => {
      const step = stepOf(req);
      const attempt = steps.filter((earlier) => earlier === step).length;
      steps.push(step);
      const instead = override(step, attempt);
      if (instead === 'hang up') return void req.socket.destroy();
      res.writeHead(instead?.status ?? 200, { 'content-type': 'application/json' });
      res.end(JSON.stringify(instead ? instead.body : answer(step, body, req.url?.split('/').at(-1) ?? '')));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/instances/launch_config/${CONFIG_ID}`;
  return {
    url,
    sessionSecret,
    steps,
    state,
    /** unsigned on purpose: the runtime only reads it */
    token: (ttlS = 600) =>
      `e30.${Buffer.from(JSON.stringify({ sub: CONFIG_ID, url, iss: 'chutes', exp: Math.floor(Date.now() / 1000) + ttlS })).toString('base64url')}.c2ln`,
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
export type FakeValidator = Awaited<ReturnType<typeof startFakeValidator>>;

function stepOf({ method, url = '' }: IncomingMessage): Step {
  if (url.endsWith('/activate')) return 'activate';
  if (url.endsWith('/povw/commit')) return 'commit';
  if (url.endsWith('/povw/walk')) return 'walk';
  if (method === 'PUT' && /\/povw\/openings\/[0-9a-f]{32}$/.test(url)) return 'openings';
  return method === 'PUT' ? 'verify' : 'claim';
}

/** JSON, or the bytes of what says it is nothing else. */
async function readBody(req: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk as Buffer);
  const bytes = Buffer.concat(chunks);
  if (req.headers['content-type'] === 'application/octet-stream') return bytes;
  return bytes.length > 0 ? JSON.parse(bytes.toString('utf8')) : undefined;
}
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
