import { beforeAll, expect, test } from '@jest/globals';
import { cryptoWaitReady } from '@polkadot/util-crypto';
import { loadHotkey, sha256Hex } from '../../../activities/clients/hotkey.ts';
import { isSignedBy, readSignedHeaders } from './verify-hotkey.ts';

// Signed by another implementation (@scure/sr25519) with the seed 32 × 0x11; the wire of spec/validator-api.md §1.2.
const HOTKEY = '5DtDLm5rQHShDqojQpsvcN8tRXHVFaecfDoRet1SU6BFD9Fi';
const NONCE = '1700000000';
const BODY = '{"username": "alice"}';
const BY_PURPOSE =
  '08cfa41e047d572455fb74d7e4928ee7f2b9db62e0f8508ddd526fa6e5792675342718f24c741da561625ffd5e3dce14b10721d4ffb1b5a0eaf879fa7c785183';
const BY_BODY =
  'b4ae68ec096dcf29e51549edbdf948d03db730d11e80fb4209802f9b265ae560bb9b3dcff4c86ef9a1837a86584b308a775280a8044b3add805a8d894868ea81';

beforeAll(async () => {
  await cryptoWaitReady();
});

test('the same seed is the same address here', async () =>
  expect((await loadHotkey('11'.repeat(32))).address).toBe(HOTKEY));

test.each([
  ['purpose', BY_PURPOSE, 'images', true],
  ['body hash', BY_BODY, sha256Hex(BODY), true],
  ['another purpose', BY_PURPOSE, 'chutes', false],
  ['a body with one space less', BY_BODY, sha256Hex('{"username":"alice"}'), false],
  ['purpose for body', BY_BODY, 'images', false],
])('fixed vector, %s', (_, signature, covered, expected) => {
  const headers = readSignedHeaders(
    { 'x-chutes-hotkey': HOTKEY, 'x-chutes-nonce': NONCE, 'x-chutes-signature': signature },
    Number(NONCE) + 5,
  );
  expect(headers && isSignedBy(headers, covered)).toBe(expected);
});
