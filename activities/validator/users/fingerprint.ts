import { createHash, randomInt } from 'node:crypto';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** `length` letters and digits, each drawn independently from the system's generator (32 of them: 190 bits). */
export const randomAlphanumeric = (length: number): string =>
  Array.from({ length }, () => ALPHABET[randomInt(ALPHABET.length)]).join('');

/** What is stored of a fingerprint (spec/validator-api.md §1.5). */
export const fingerprintHash = (fingerprint: string): string =>
  createHash('blake2b512').update(fingerprint, 'utf8').digest('hex');
