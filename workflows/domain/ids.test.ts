import { expect, test } from '@jest/globals';
import { chuteIdOf, chuteVersionOf, imageIdOf, uuid5 } from './ids.ts';

// Vectors: spec/sdk-and-runtime.md appendix A.
test.each([
  ['image id, all lower case', imageIdOf('alice', 'my-img', 'v1'), 'f504e9e1-ca57-5515-86f9-f26459ce2b43'],
  ['image id, validator rule, mixed case', imageIdOf('Alice', 'My-Img', 'V1'), 'cfc75e94-2c07-5332-92c3-519cfe1f22b6'],
  ['chute id', chuteIdOf('alice', 'demo'), 'efe653b6-6e98-5b64-9cad-100719823f7e'],
  [
    'chute version',
    chuteVersionOf('f504e9e1-ca57-5515-86f9-f26459ce2b43', 'initial', 'print(1)\n'),
    'b748d5e2-f389-5871-abb8-fbb0e8cd481e',
  ],
  ['IP token', uuid5('203.0.113.7:salt:42'), '155eaed2-8d70-5141-b421-ac58327f6c05'],
])('%s is the reference vector', (_, id, expected) => expect(id).toBe(expected));
