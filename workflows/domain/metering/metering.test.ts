import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { NO_RATES, usableRates, withAnswer } from './chute-rates.ts';
import { csvLine, exportPath, pythonLiteral, readExportName } from './export-csv.ts';
import { metricsOf } from './metrics.ts';

test.each([
  [{ it: 10, p: false, mc: null, q: true }, "{'it': 10, 'p': False, 'mc': None, 'q': True}"],
  [{ a: Number.NaN, b: Number.POSITIVE_INFINITY, c: 1e-7 }, "{'c': 1e-7}"],
  [{ "it's": 'a\\b\n\u0001é' }, "{'it\\'s': 'a\\\\b\\n\\x01é'}"],
  [{ list: [1, null, 'x'], deep: { x: undefined } }, "{'list': [1, None, 'x'], 'deep': {'x': None}}"],
  [{}, '{}'],
  [null, 'None'],
])('python literal of %j', (value, literal) => {
  expect(pythonLiteral(value)).toBe(literal);
});

test('a line is quoted only where it must be, and ends as the wire says', () => {
  expect(csvLine(['a', null, 1, 0.5, 'b,c', 'say "x"', 'two\nlines', ' padded '])).toBe(
    'a,,1,0.5,"b,c","say ""x""","two\nlines", padded \r\n',
  );
});

test('a name and its hour are one thing, padded or not; hours are named by their end', () => {
  expect(exportPath('invocations', Date.UTC(2026, 0, 2, 0))).toBe('invocations/2026/01/02/00.csv');
  fc.assert(
    fc.property(
      fc.integer({ min: 482_136, max: 499_000 }),
      fc.constantFrom('invocations' as const, 'reports' as const, 'jobs' as const),
      fc.boolean(),
      (hour, kind, padded) => {
        const endMs = hour * 3_600_000;
        const parts = exportPath(kind, endMs).split('/').slice(1) as [string, string, string, string];
        const [year, month, day, file] = padded
          ? parts
          : (parts.map((part) => part.replace(/^0(?=\d)/, '')) as typeof parts);
        expect(readExportName(year, month, day, file, endMs)).toEqual({ kind, endMs });
      },
    ),
  );
});

describe('metrics', () => {
  const served = {
    durationMs: 2000,
    firstByteMs: 500,
    isStream: true,
    usage: { inputTokens: 10, outputTokens: 40 },
    chunks: 38,
    steps: null,
    meanConnections: 3,
    isPrivate: true,
  };
  test('speak seconds and tokens a second; normalised seconds only with rates', () => {
    const without = metricsOf(served, { maspt: null, ptps: null, otps: null });
    expect(without).toEqual({ tt: 2, p: true, mc: 3, it: 10, ot: 40, tps: 20, ctps: 25, ttft: 0.5, tokens: 38 });
    expect(metricsOf(served, { maspt: 0.04, ptps: 20, otps: 40 })).toMatchObject({
      maspt: 0.04,
      ptps: 20,
      otps: 40,
      nc: 1.5,
    });
    expect(metricsOf({ ...served, usage: null, steps: 30 }, { maspt: null, ptps: null, otps: null })).toEqual({
      tt: 2,
      p: true,
      mc: 3,
      steps: 30,
      sps: 15,
    });
  });
  test('rates are usable after 25 answers, and stay between the slowest and the fastest', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ speed: fc.integer({ min: 1, max: 500 }), gapMs: fc.integer({ min: 1, max: 60_000 }) }), {
          minLength: 25,
          maxLength: 60,
        }),
        (answers) => {
          let [rates, atMs] = [NO_RATES, 0];
          answers.forEach(({ speed, gapMs }, index) => {
            expect(usableRates(rates).otps !== null).toBe(index >= 25);
            atMs += gapMs;
            rates = withAnswer(rates, {
              atMs,
              inputTokens: 100,
              outputTokens: speed,
              firstByteMs: 100,
              durationMs: 1100,
            });
          });
          const speeds = answers.map(({ speed }) => speed);
          expect(rates.outputRate).toBeGreaterThanOrEqual(Math.min(...speeds) - 1e-6);
          expect(rates.outputRate).toBeLessThanOrEqual(Math.max(...speeds) + 1e-6);
        },
      ),
    );
  });
});
