import { createDecipheriv, hkdfSync } from 'node:crypto';
import { expect, test } from '@jest/globals';
import { openSessionSecret, sealSessionSecret } from './sealed-secret.ts';

// RFC 7748 §6.1: the secret its two sides share.
const SHARED = '4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742';
const material = {
  sharedSecret: Buffer.from(SHARED, 'hex'),
  nonce2: '00112233445566778899aabbccddeeff',
  proofs: [
    { gpuUuid: 'b'.repeat(32), root: '2b'.repeat(32), digest: 'dd'.repeat(32) },
    { gpuUuid: 'a'.repeat(32), root: '1a'.repeat(32), digest: 'cc'.repeat(32) },
  ],
};
const nonce = Buffer.from('070000004041424344454647', 'hex');
const SECRET = '5e'.repeat(32);
const VECTOR =
  'BwAAAEBBQkNERUZHBa8YUi7bDdPpvJyoN067q7yLBXN0mwU/QJd6MF9Uhoba+9MhPlzUw6qNHVuF0sFNB8matHWJUO3iY9ZiZnxJMAEmmuJpc7NwblY4gKdDHBc=';

test('the sealed form is the fixed vector, and what Node’s own crypto makes of the same definition', () => {
  const sealed = sealSessionSecret({ ...material, secret: SECRET, nonce });
  expect(sealed).toBe(VECTOR);
  const info = `povw-key/1${'1a'.repeat(32)}${'2b'.repeat(32)}${'cc'.repeat(32)}${'dd'.repeat(32)}`;
  const key = Buffer.from(
    hkdfSync('sha256', Buffer.from(SHARED, 'hex'), Buffer.from(material.nonce2, 'hex'), info, 32),
  );
  const bytes = Buffer.from(sealed, 'base64');
  const decipher = createDecipheriv('chacha20-poly1305', key, bytes.subarray(0, 12), { authTagLength: 16 });
  decipher.setAuthTag(bytes.subarray(-16));
  expect(Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]).toString()).toBe(SECRET);
});

test.each([
  ['another shared secret', { sharedSecret: Buffer.alloc(32, 1) }],
  ['another nonce 2', { nonce2: 'ff'.repeat(16) }],
  ['another digest', { proofs: material.proofs.map((proof) => ({ ...proof, digest: 'ee'.repeat(32) })) }],
  ['a proof left out', { proofs: material.proofs.slice(1) }],
])('%s does not open it', (_, over) => {
  const sealed = sealSessionSecret({ ...material, secret: SECRET, nonce });
  expect(openSessionSecret({ ...material, sealed })).toBe(SECRET);
  expect(() => openSessionSecret({ ...material, ...over, sealed })).toThrow();
});

test('without a proof the key is the exchange alone', () => {
  const bare = { sharedSecret: material.sharedSecret, nonce2: null, proofs: [] };
  expect(openSessionSecret({ ...bare, sealed: sealSessionSecret({ ...bare, secret: SECRET, nonce }) })).toBe(SECRET);
});
