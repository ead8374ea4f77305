import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { isPublicAddress } from '../../../workflows/domain/nodes/public-address.ts';

/** Why a verification host cannot be used: it must be a public address, or resolve to nothing else within 5 s (§2.5). */
export async function whyHostRefused(
  host: string,
  resolve = (name: string) => lookup(name, { all: true }),
): Promise<string | null> {
  if (isIP(host)) return isPublicAddress(host) ? null : `verification host ${host} is not a public address`;
  if (!/^(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(host))
    return 'verification host is not a host name';
  const late = Promise.withResolvers<null>();
  const timer = setTimeout(() => late.resolve(null), 5000);
  try {
    const addresses = await Promise.race([resolve(host), late.promise]);
    if (!addresses || addresses.length === 0) return `verification host ${host} does not resolve`;
    return addresses.every(({ address }) => isPublicAddress(address))
      ? null
      : `verification host ${host} does not resolve to public addresses only`;
  } catch {
    return `verification host ${host} does not resolve`;
  } finally {
    clearTimeout(timer);
  }
}
