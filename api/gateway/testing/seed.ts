import { randomBytes, randomUUID } from 'node:crypto';
import type { Knex } from 'knex';
import { SecretBox } from '../../../activities/clients/secret-box.ts';
import { apiKeyHmac } from '../../../activities/validator/auth/api-key-hmac.ts';
import type { FakeInstance } from './fake-instance.ts';

export const PEPPER = 'ab'.repeat(32);
export const SECRETS_KEY = 'cd'.repeat(32);

/** Rows as the other programs write them, with only what routing reads made interesting. */
export function seeder(db: Knex) {
  return {
    user: async (over: Record<string, unknown> = {}): Promise<{ userId: string; username: string }> => {
      const userId = randomUUID();
      const username = `user${randomBytes(4).toString('hex')}`;
      const row = {
        user_id: userId,
        username,
        hotkey: randomUUID(),
        coldkey: 'c',
        payment_address: randomUUID(),
        payment_secret_sealed: Buffer.from('x'),
        fingerprint_hash: randomUUID(),
        ...over,
      };
      await db('users').insert(row);
      return { userId, username: row.username };
    },
    key: async (userId: string, scopes: unknown[] | null = null): Promise<string> => {
      const keyId = randomUUID();
      const secret = `cpk_${keyId.replaceAll('-', '')}.${userId.replaceAll('-', '')}.${randomBytes(16).toString('hex')}`;
      await db('api_keys').insert({
        api_key_id: keyId,
        user_id: userId,
        name: keyId,
        admin: scopes === null,
        scopes: JSON.stringify(scopes ?? []),
        secret_hmac: apiKeyHmac(PEPPER, secret),
      });
      return secret;
    },
    chute: async (
      userId: string,
      over: Record<string, unknown> = {},
    ): Promise<{ chuteId: string; name: string; slug: string; version: string }> => {
      const imageId = randomUUID();
      const chuteId = randomUUID();
      const name = `model-${chuteId.slice(0, 8)}`;
      const version = randomUUID();
      await db('images').insert({
        image_id: imageId,
        user_id: userId,
        name: imageId,
        tag: '1',
        public: true,
        status: 'built and pushed',
        chutes_version: '0.6.9',
        context_key: 'k',
        context_sha256: 's',
        dockerfile_key: 'k',
        dockerfile_sha256: 's',
      });
      const row = {
        chute_id: chuteId,
        user_id: userId,
        image_id: imageId,
        name,
        slug: `slug-${chuteId.slice(0, 8)}`,
        version,
        public: true,
        code: '',
        filename: 'a.py',
        ref_str: 'a:chute',
        standard_template: 'vllm',
        node_selector: JSON.stringify({ gpu_count: 1, include: ['4090'] }),
        cords: JSON.stringify(CHAT_CORDS),
        concurrency: 8,
        chutes_version: '0.6.9',
        ...over,
      };
      await db('chutes').insert(row);
      return { chuteId, name: row.name, slug: row.slug, version };
    },
    instance: async (
      chute: { chuteId: string; version: string },
      fake: FakeInstance,
      over: Record<string, unknown> = {},
    ): Promise<string> => {
      const instanceId = randomUUID();
      const configId = randomUUID();
      await db('launch_configs').insert({
        config_id: configId,
        instance_id: instanceId,
        chute_id: chute.chuteId,
        chute_version: chute.version,
        miner_hotkey: 'hk',
        miner_coldkey: 'ck',
        miner_uid: 3,
        env_key: 'e',
        ephemeral_key_sealed: Buffer.from('x'),
        ephemeral_public_key: 'p',
        expires_at: new Date(),
      });
      await db('instances').insert({
        instance_id: instanceId,
        config_id: configId,
        chute_id: chute.chuteId,
        version: chute.version,
        miner_hotkey: 'hk',
        miner_coldkey: 'ck',
        miner_uid: 3,
        host: '127.0.0.1',
        port: fake.port,
        port_mappings: '[]',
        transport: 'canopy/1',
        tls_cert_pem: fake.certPem,
        tls_cert_sha256: fake.certSha256,
        session_secret_sealed: new SecretBox(SECRETS_KEY).seal(fake.secret, `instance:${instanceId}`),
        gpu_count: 1,
        gpu_model_name: '4090',
        hourly_rate_micro_usd: 400_000,
        compute_multiplier: 0.5,
        chutes_version: '0.6.9',
        active: true,
        verified: true,
        ...over,
      });
      return instanceId;
    },
  };
}

const cord = (fn: string, path: string, stream: boolean, publicPath: string): Record<string, unknown> => ({
  method: 'POST',
  path,
  function: fn,
  stream,
  passthrough: true,
  public_api_path: publicPath,
  public_api_method: 'POST',
});
export const CHAT_CORDS = [
  cord('chat', '/chat', false, '/v1/chat/completions'),
  cord('chat_stream', '/chat_stream', true, '/v1/chat/completions'),
  {
    method: 'GET',
    path: '/get_models',
    function: 'get_models',
    stream: false,
    public_api_path: '/v1/models',
    public_api_method: 'GET',
  },
  { method: 'POST', path: '/echo', function: 'echo', stream: false },
];
