/** Byte encodings of the proof: little-endian integers, length-prefixed fields, strict hex and base64. Pure, no Node. */

export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

export function u32le(value: number): Uint8Array {
  return new Uint8Array([value & 255, (value >>> 8) & 255, (value >>> 16) & 255, (value >>> 24) & 255]);
}

/** `value` is a whole number up to 2^53 − 1. */
export function u64le(value: number): Uint8Array {
  return concatBytes(u32le(value % 2 ** 32), u32le(Math.floor(value / 2 ** 32)));
}

/** u32le(length) ‖ bytes: fields put one after the other stay unambiguous. */
export const lengthPrefixed = (bytes: Uint8Array): Uint8Array => concatBytes(u32le(bytes.length), bytes);

export const isHash = (value: unknown): value is string => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const SEXTETS: ReadonlyMap<string, number> = new Map(Array.from(ALPHABET).map((letter, value) => [letter, value]));

/** Standard alphabet, padded (RFC 4648 §4). */
export function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 3) {
    const left = bytes.length - at;
    const word = ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
    text += (ALPHABET[word >> 18] ?? '') + (ALPHABET[(word >> 12) & 63] ?? '');
    text += left > 1 ? (ALPHABET[(word >> 6) & 63] ?? '') : '=';
    text += left > 2 ? (ALPHABET[word & 63] ?? '') : '=';
  }
  return text;
}

/** The bytes, or null unless `text` is exactly the encoding of `length` bytes: one spelling only, never a throw. */
export function fromBase64(text: unknown, length: number): Uint8Array | null {
  if (typeof text !== 'string' || text.length !== Math.ceil(length / 3) * 4) return null;
  const padding = (3 - (length % 3)) % 3;
  if (text.slice(text.length - padding) !== '='.repeat(padding)) return null;
  const out = new Uint8Array(length);
  let bits = 0;
  let held = 0;
  let at = 0;
  for (let index = 0; index < text.length - padding; index++) {
    const sextet = SEXTETS.get(text[index] ?? '');
    if (sextet === undefined) return null;
    held = (held << 6) | sextet;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    out[at++] = held >> bits;
    held &= (1 << bits) - 1;
  }
  return held === 0 ? out : null;
}
