import { expect, test } from '@jest/globals';
import { judgeSight, type Judgement, type Seen, type Watch } from './judge-sight.ts';

const times = { sinceMs: 30_000, intervalMs: 30_000, graceMs: 120_000 };
const active: Watch = { status: 'active', silentMs: 0 };
const disabled = (silentMs: number): Watch => ({ status: 'disabled', silentMs });
const serving: Seen = { isServing: true, consecutiveFailures: 0 };
const unseen: Seen = { isServing: false, consecutiveFailures: 0 };
const keep = (watch: Watch): Judgement => ({ kind: 'keep', watch });

test.each<[string, Watch, Seen, Partial<typeof times>, Judgement]>([
  ['serving stays active', active, serving, {}, keep(active)],
  ['the first miss only takes it out of routing', active, unseen, { sinceMs: 10_000_000 }, keep(disabled(0))],
  ['silence adds up', disabled(60_000), unseen, {}, keep(disabled(90_000))],
  ['the whole grace ends it', disabled(90_000), unseen, {}, { kind: 'remove', code: 'silent' }],
  ['an hour nobody looked is not silence', disabled(0), unseen, { sinceMs: 3_600_000 }, keep(disabled(60_000))],
  ['one look forgives', disabled(119_999), serving, {}, keep(active)],
  ['six failed requests in a row are forgiven', active, { ...serving, consecutiveFailures: 6 }, {}, keep(active)],
  [
    'seven are not',
    active,
    { ...serving, consecutiveFailures: 7 },
    {},
    { kind: 'remove', code: 'consecutive_failures' },
  ],
  [
    'failures of before it was disabled do not end it',
    disabled(0),
    { ...serving, consecutiveFailures: 7 },
    {},
    keep(active),
  ],
])('%s', (_, watch, seen, over, expected) => expect(judgeSight(watch, seen, { ...times, ...over })).toEqual(expected));
