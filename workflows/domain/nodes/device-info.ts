import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';
import type { DeviceInfo } from '../protocol/launch.ts';

/** How many device-info challenges a registration asks (spec/validator-internals.md §2.14.2). */
export const DEVICE_INFO_CHALLENGES = 20;

/** The device that a challenge asks about: its first byte is the device's index, modulo the number of devices. */
export const challengedIndex = (challenge: string, deviceCount: number): number =>
  Number.parseInt(challenge.slice(0, 2), 16) % deviceCount;

/**
 * Open answer to the device-info challenge, 64 hex: SHA-256 of the challenge's text followed by JSON, without spaces and
 * with sorted keys, of the fields that every miner announces (`processors` and the like may be left out on the wire).
 */
export function deviceInfoAnswer(
  challenge: string,
  { uuid, name, memory, clock_rate }: Pick<DeviceInfo, 'uuid' | 'name' | 'memory' | 'clock_rate'>,
): string {
  return bytesToHex(sha256(utf8ToBytes(challenge + JSON.stringify({ clock_rate, memory, name, uuid }))));
}
