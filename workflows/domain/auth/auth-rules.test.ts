import { expect, test } from '@jest/globals';
import { accessOf, covers, formatApiKey, isApiKeyName, parseApiKey, type Access, type Scope } from './api-keys.ts';
import { isFreshNonce } from './signing.ts';
import { isUsername, permissionsOf } from './users.ts';

const KEY_ID = '11111111-2222-4333-8444-555555555555';
const USER_ID = 'aaaaaaaa-bbbb-5ccc-8ddd-eeeeeeeeeeee';
const KEY = formatApiKey(KEY_ID, USER_ID, 'aB3'.padEnd(32, 'x'));

test('a key is 102 characters and carries both ids', () => {
  expect(KEY).toHaveLength(102);
  expect(KEY).toMatch(/^cpk_[a-f0-9]{32}\.[a-f0-9]{32}\.[a-zA-Z0-9]{32}$/);
});

test.each([
  ['bare', KEY],
  ['Bearer', `Bearer ${KEY}`],
  ['Basic', `Basic ${KEY}`],
  ['more words', `Token  x ${KEY}`],
])('%s key is read', (_, header) =>
  expect(parseApiKey(header)).toEqual({ apiKeyId: KEY_ID, userId: USER_ID, secret: KEY }),
);
test.each([
  '',
  'Bearer',
  `${KEY} `,
  `${KEY}x`,
  KEY.slice(0, -1),
  KEY.toUpperCase(),
  KEY.replace('.', ','),
  `Bearer\t${KEY}`,
])('%p is no key', (header) => expect(parseApiKey(header)).toBeNull());

const CHUTE = 'efe653b6-6e98-5b64-9cad-100719823f7e';
test.each<[string, string, Access]>([
  ['GET', '/chutes/', { action: 'read', objectType: 'chutes', objectId: null }],
  ['GET', `/chutes/${CHUTE}`, { action: 'read', objectType: 'chutes', objectId: CHUTE }],
  ['DELETE', `/chutes/${CHUTE}`, { action: 'delete', objectType: 'chutes', objectId: CHUTE }],
  ['POST', '/chutes/', { action: 'write', objectType: 'chutes', objectId: null }],
  ['PUT', `/chutes/${CHUTE}`, { action: 'write', objectType: 'chutes', objectId: CHUTE }],
  ['POST', '/chutes/my-chute/generate', { action: 'invoke', objectType: 'chutes', objectId: 'my-chute' }],
  ['GET', `/images/${CHUTE}/logs`, { action: 'read', objectType: 'images', objectId: CHUTE }],
  ['GET', '/images/alice/my-img:v1', { action: 'read', objectType: 'images', objectId: null }],
  ['GET', '/users/me', { action: 'read', objectType: 'users', objectId: 'me' }],
  ['GET', '/', { action: 'read', objectType: '', objectId: null }],
])('%s %s counts as %p', (method, path, expected) => expect(accessOf(method, path)).toEqual(expected));

const scope = (over: Partial<Scope> = {}): Scope => ({ objectType: 'chutes', objectId: null, action: null, ...over });
const read: Access = { action: 'read', objectType: 'chutes', objectId: CHUTE };
test.each<[string, boolean, Scope[], Access, boolean]>([
  ['admin needs no scope', true, [], read, true],
  ['no scope covers nothing', false, [], read, false],
  ['any object, any action', false, [scope()], read, true],
  ['another type', false, [scope({ objectType: 'images' })], read, false],
  ['another action', false, [scope({ action: 'invoke' })], read, false],
  ['this object', false, [scope({ objectId: CHUTE.toUpperCase() })], read, true],
  ['another object', false, [scope({ objectId: KEY_ID })], read, false],
  ['one object never covers the collection', false, [scope({ objectId: CHUTE })], { ...read, objectId: null }, false],
  ['this action of this object', false, [scope({ objectId: CHUTE, action: 'read' })], read, true],
  ['a duplicate does no harm', false, [scope({ objectType: 'images' }), scope(), scope()], read, true],
])('%s', (_, admin, scopes, want, expected) => expect(covers({ admin, scopes }, want)).toBe(expected));

test.each([
  ['ci', true],
  ['a b$c.d_e-f', true],
  ['ключ', true],
  ['x'.repeat(24), true],
  ['', false],
  ['x'.repeat(25), false],
  ['a/b', false],
  ['a\nb', false],
  ['<b>', false],
])('key name %p: %p', (name, expected) => expect(isApiKeyName(name)).toBe(expected));
test.each([
  ['bob', true],
  ['Al_ice-9', true],
  ['x'.repeat(15), true],
  ['ab', false],
  ['x'.repeat(16), false],
  ['a b', false],
  ['é__', false],
  ['bob\n', false],
])('username %p: %p', (name, expected) => expect(isUsername(name)).toBe(expected));

test('the sentence the SDK looks for stands for bit 11', () => {
  expect(permissionsOf(2048 | 16)).toEqual(['Free account.', 'Allow deploying models publicly.']);
  expect(permissionsOf(0)).toEqual([]);
});

test.each([
  ['now', '1000', true],
  ['599 s old', '401', true],
  ['600 s old', '400', false],
  ['599 s ahead', '1599', true],
  ['600 s ahead', '1600', false],
  ['a sign', '+1000', false],
  ['a dot', '1000.0', false],
  ['empty', '', false],
  ['hex', '0x3e8', false],
  ['a space', ' 1000', false],
])('nonce %s', (_, nonce, expected) => expect(isFreshNonce(nonce, 1000, 600)).toBe(expected));
