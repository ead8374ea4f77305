/** Rows a launch stands on, for tests of instances: a chute that wants some, a miner with verified GPUs, a permission. */
import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import type { Knex } from 'knex';
import type { SecretBox } from '../../activities/clients/secret-box.ts';

export interface ChuteOptions {
  public?: boolean;
  targetCount?: number;
  gpuCount?: number;
  version?: string;
  minimumTrustLevel?: string;
}

export async function insertChute(knex: Knex, userId: string, options: ChuteOptions = {}): Promise<string> {
  const [chuteId, imageId] = [randomUUID(), randomUUID()];
  await knex('images').insert({
    image_id: imageId,
    user_id: userId,
    name: imageId,
    tag: 't',
    public: true,
    status: 'built and pushed',
    chutes_version: '0.6.9',
    context_key: 'k',
    context_sha256: 's',
    dockerfile_key: 'k',
    dockerfile_sha256: 's',
  });
  await knex('chutes').insert({
    chute_id: chuteId,
    user_id: userId,
    image_id: imageId,
    name: chuteId,
    slug: chuteId,
    version: options.version ?? randomUUID(),
    public: options.public ?? true,
    code: 'print("chute")',
    filename: 'chute.py',
    ref_str: 'chute:chute',
    chutes_version: '0.6.9',
    concurrency: 4,
    node_selector: JSON.stringify({
      gpu_count: options.gpuCount ?? 1,
      min_vram_gb_per_gpu: 16,
      include: ['h100'],
      exclude: null,
    }),
    target_count: options.targetCount ?? 1,
    minimum_trust_level: options.minimumTrustLevel ?? 'none',
  });
  return chuteId;
}

export async function insertNode(knex: Knex, minerHotkey: string, over: Record<string, unknown> = {}): Promise<string> {
  const uuid = randomBytes(16).toString('hex');
  await knex('nodes').insert({
    uuid,
    miner_hotkey: minerHotkey,
    task_id: 't',
    name: 'NVIDIA H100',
    memory: 80 * 1024 ** 3,
    clock_rate: 1,
    device_index: 0,
    gpu_identifier: 'h100',
    verification_host: '127.0.0.1',
    verification_port: 1,
    seed: 1,
    status: 'verified',
    trust_level: 'simulated',
    verified_at: new Date(),
    ...over,
  });
  return uuid;
}

export interface Permission {
  configId: string;
  instanceId: string;
  chuteId: string;
  minerHotkey: string;
}

export async function insertPermission(
  knex: Knex,
  box: SecretBox,
  chuteId: string,
  minerHotkey: string,
): Promise<Permission> {
  const [configId, instanceId] = [randomUUID(), randomUUID()];
  const { privateKey, publicKey } = generateKeyPairSync('x25519');
  const { version }: { version: string } = await knex('chutes').where({ chute_id: chuteId }).first('version');
  await knex('launch_configs').insert({
    config_id: configId,
    instance_id: instanceId,
    chute_id: chuteId,
    chute_version: version,
    miner_hotkey: minerHotkey,
    miner_coldkey: minerHotkey,
    miner_uid: 0,
    env_key: 'e',
    ephemeral_key_sealed: box.seal(
      privateKey.export({ format: 'der', type: 'pkcs8' }).toString('hex'),
      `launch:${configId}`,
    ),
    ephemeral_public_key: publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('hex'),
    expires_at: new Date(Date.now() + 3_600_000),
  });
  return { configId, instanceId, chuteId, minerHotkey };
}

/** A self-signed P-256 leaf made beforehand: what a claim pins. */
export const TEST_CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBiDCCAS2gAwIBAgIUZwmb5P4U2SioSobAOiyp7jDHVWAwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNaW5zdGFuY2UudGVzdDAgFw0yNjExMjEwOTAwNTBaGA8yMTI2
MTAyODA5MDA1MFowGDEWMBQGA1UEAwwNaW5zdGFuY2UudGVzdDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABNdQKGGvpbWjL+JWILA8TI+MLT9pRVu3DH7J2fTLEZMR
AizCCNd+p+ErP9TF6/o8X8CZRy9Xv2Xs6P1J50FJxIGjUzBRMB0GA1UdDgQWBBTh
+3YhA5e6WyosNGGo/yBWkYB0JjAfBgNVHSMEGDAWgBTh+3YhA5e6WyosNGGo/yBW
kYB0JjAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQDvfyqdnvv0
OMQlIRNb4TqOi0zXkd39/BqltWXRzbe2LgIhAPttbGAZ0k8wKGgmWZ8q3RPVpMwz
D6Zu1P8JoeTtIJX5
-----END CERTIFICATE-----
`;
export const TEST_CERTIFICATE_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgaZevZOwfsZRNab2v
/C2QlS76ceDFa+q2QBu5zbM6E+OhRANCAATXUChhr6W1oy/iViCwPEyPjC0/aUVb
twx+ydn0yxGTEQIswgjXfqfhKz/Uxev6PF/AmUcvV79l7Oj9SedBScSB
-----END PRIVATE KEY-----
`;
