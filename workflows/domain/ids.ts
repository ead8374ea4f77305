import { sha1 } from '@noble/hashes/legacy.js';
import { bytesToHex, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js';

/** Deterministic ids of the wire (spec/validator-api.md §6.1): uuid5 in the OID namespace. */
const OID = '6ba7b812-9dad-11d1-80b4-00c04fd430c8';

export function uuid5(name: string, namespace: string = OID): string {
  const digest = sha1(new Uint8Array([...hexToBytes(namespace.replaceAll('-', '')), ...utf8ToBytes(name)])).slice(
    0,
    16,
  );
  digest[6] = ((digest[6] ?? 0) & 0x0f) | 0x50;
  digest[8] = ((digest[8] ?? 0) & 0x3f) | 0x80;
  return bytesToHex(digest).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

export const isUuid = (text: string): boolean => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text);

export const userIdOf = (fingerprintHash: string): string => uuid5(fingerprintHash);
/** The validator lower-cases only the user name; names and tags are enforced lower case at creation, so every client agrees. */
export const imageIdOf = (username: string, name: string, tag: string): string =>
  uuid5(`${username.toLowerCase()}/${name}:${tag}`);
/** Exact case: the SDK computes the same value locally. */
export const chuteIdOf = (username: string, name: string): string => uuid5(`${username}::chute::${name}`);
/** `initial` patches are not named: the V-2025 formula stays valid for unpatched images (§6.1, V-2026 form otherwise). */
export const chuteVersionOf = (imageId: string, patchVersion: string, code: string): string =>
  uuid5(patchVersion === 'initial' ? `${imageId}:${code}` : `${imageId}:${patchVersion}:${code}`);
