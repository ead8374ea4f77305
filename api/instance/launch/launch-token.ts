import type { LaunchClaims } from '../../../workflows/domain/protocol/launch.ts';

/**
 * The claims of a launch token, unverified: only the validator can check it, and its `url` decides which validator is
 * asked (spec/sdk-and-runtime.md §3.6).
 */
export function readLaunchToken(token: string): Pick<LaunchClaims, 'sub' | 'url' | 'exp' | 'chute_id'> {
  const claims = decode(token);
  const { sub, url, exp, chute_id } = claims;
  if (typeof sub !== 'string' || typeof url !== 'string' || !/^https?:\/\//.test(url) || typeof exp !== 'number') {
    throw new Error('CHUTES_LAUNCH_JWT: claims sub, url or exp are missing');
  }
  return { sub, url: url.replace(/\/+$/, ''), exp, chute_id: typeof chute_id === 'string' ? chute_id : '' };
}

function decode(token: string): Record<string, unknown> {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
    if (typeof claims === 'object' && claims !== null) return claims as Record<string, unknown>;
  } catch {
    // falls through to the one message
  }
  throw new Error('CHUTES_LAUNCH_JWT is not a JSON Web Token');
}
