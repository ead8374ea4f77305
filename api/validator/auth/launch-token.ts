import { createHash } from 'node:crypto';
import { jwtVerify, SignJWT } from 'jose';
import type { LaunchClaims } from '../../../workflows/domain/protocol/launch.ts';
import type { ValidatorConfig } from '../../../workers/config/validator.ts';

type LaunchConfig = Pick<
  ValidatorConfig,
  | 'CANOPY_LAUNCH_KEY'
  | 'CANOPY_PUBLIC_URL'
  | 'CANOPY_CLAIM_DEADLINE_MS'
  | 'CANOPY_PROOF_DEADLINE_MS'
  | 'CANOPY_ACTIVATION_DEADLINE_MS'
>;

/** What the caller decides; the rest follows from the configuration. Times are Unix seconds. */
export type LaunchGrant = Omit<LaunchClaims, 'iss' | 'iat' | 'exp' | 'url'> & { iat: number; exp?: number };

/** The key is the hex SHA-256 of the setting, used as text (spec/validator-api.md §2.6.1). */
const keyOf = (config: Pick<ValidatorConfig, 'CANOPY_LAUNCH_KEY'>): Uint8Array =>
  new TextEncoder().encode(createHash('sha256').update(config.CANOPY_LAUNCH_KEY.reveal()).digest('hex'));

export const launchUrlOf = (config: Pick<ValidatorConfig, 'CANOPY_PUBLIC_URL'>, configId: string): string =>
  `${config.CANOPY_PUBLIC_URL}/instances/launch_config/${configId}`;

/** HS256. Lives through the last deadline it serves: claimed at the last moment it must still activate. */
export async function mintLaunchToken(
  config: LaunchConfig,
  { iat, exp, sub, ...claims }: LaunchGrant,
): Promise<string> {
  const lifeMs =
    config.CANOPY_CLAIM_DEADLINE_MS + config.CANOPY_PROOF_DEADLINE_MS + config.CANOPY_ACTIVATION_DEADLINE_MS;
  return new SignJWT({ ...claims, url: launchUrlOf(config, sub) })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setSubject(sub)
    .setIssuer('chutes')
    .setIssuedAt(iat)
    .setExpirationTime(exp ?? iat + Math.ceil(lifeMs / 1000))
    .sign(keyOf(config));
}

/** The token's config id, or null: expired, of another key, algorithm or issuer, or no token at all. */
export async function readLaunchToken(
  config: Pick<ValidatorConfig, 'CANOPY_LAUNCH_KEY'>,
  token: string,
  now: Date,
): Promise<string | null> {
  try {
    const { payload } = await jwtVerify(token, keyOf(config), {
      algorithms: ['HS256'],
      issuer: 'chutes',
      requiredClaims: ['sub', 'exp', 'iat'],
      currentDate: now,
    });
    return payload.sub ?? null;
  } catch {
    return null;
  }
}
