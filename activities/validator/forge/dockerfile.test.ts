import { expect, test } from '@jest/globals';
import { checkDockerfile } from './dockerfile-policy.ts';
import { expand, expandProperties, expandWords, parseDockerfile } from './dockerfile.ts';

test('continuation lines, comments inside them, flags and exec forms are read as Docker reads them', () => {
  const steps = parseDockerfile(
    '# syntax=x\nARG V=1\nfrom --platform=linux/amd64 python:${V} AS a\nCOPY --chown=1:1 a \\\n  # why\n\n  b ./\nRUN ["a", "b c"]\nRUN [not json\nRUN <<EOF\necho\nEOF\nCMD x\n',
  );
  expect(steps.map(({ line, keyword, text, exec }) => ({ line, keyword, text, exec }))).toEqual([
    { line: 2, keyword: 'ARG', text: 'V=1', exec: null },
    { line: 3, keyword: 'FROM', text: 'python:${V} AS a', exec: null },
    { line: 4, keyword: 'COPY', text: 'a   b ./', exec: null },
    { line: 8, keyword: 'RUN', text: '["a", "b c"]', exec: ['a', 'b c'] },
    { line: 9, keyword: 'RUN', text: '[not json', exec: null },
    { line: 10, keyword: 'RUN', text: '<<EOF', exec: null },
    { line: 13, keyword: 'CMD', text: 'x', exec: null },
  ]);
});

test.each([
  ['$A-${A}', '1-1'],
  ['${B:-two}', 'two'],
  ['${A:-two}', '1'],
  ['${A:+x}${B:+y}', 'x'],
  [String.raw`\$A`, '$A'],
  ['\'$A\' "$A"', '$A 1'],
  ['$', '$'],
  ['a  b', 'a b'],
])('%s becomes %s', (text, expected) => expect(expand(text, { A: '1' })).toBe(expected));

test('properties take both forms', () => {
  const env = (text: string) =>
    expandProperties({ line: 1, keyword: 'ENV', flags: [], text, exec: null, heredoc: false }, { P: 'p' });
  expect(env('A=b C="d e" F=$P:x')).toEqual([
    ['A', 'b'],
    ['C', 'd e'],
    ['F', 'p:x'],
  ]);
  expect(env('OLD some $P here')).toEqual([['OLD', 'some p here']]);
  expect(() => env('A=b C')).toThrow('line 1: ENV');
  expect(expandWords(String.raw`a\ b ""`, {})).toEqual(['a b', '']);
});

const policy = { registry: '127.0.0.1:5000', username: 'Alice', network: 'none' as const };
test.each([
  ['', /empty/],
  ['RUN x', /line 1: RUN: a Dockerfile begins with FROM/],
  ['FROM a\n???', /line 2: not an instruction/],
  ['# escape=`\nFROM a', /escape/],
  ['FROM dir:/etc', /no image of a registry/],
  ['FROM docker-archive:/x.tar', /no image/],
  ['ARG B=oci:/x\nFROM $B', /line 2: FROM/],
  ['FROM a\nCOPY --from=containers-storage:x a b', /no image/],
  ['FROM 127.0.0.1:5000/bob/private:v1', /images of bob are not yours/],
  ['FROM a\nRUN --mount=type=secret,id=x true', /type secret/],
  ['FROM a\nRUN --mount=type=bind,from=dir:/etc,target=/x true', /no image/],
  ['FROM a\nRUN --network=host true', /--network=host/],
  ['FROM a\nRUN --security=insecure true', /security/],
  ['FROM a\nADD https://x/y /', /without a network/],
  ['FROM a\nONBUILD RUN true', /ONBUILD/],
])('%j is refused before anything runs', (content, message) =>
  expect(() => checkDockerfile(content, policy)).toThrow(message),
);

test.each([
  'FROM 127.0.0.1:5000/alice/mine:v1',
  'FROM 127.0.0.1:5000/parachutes/python:3.12',
  'FROM scratch',
  'FROM python:3.12 AS a\nFROM a\nCOPY --from=a /x /y\nCOPY --from=0 /x /z',
])('%j may be built', (content) => expect(() => checkDockerfile(content, policy)).not.toThrow());
