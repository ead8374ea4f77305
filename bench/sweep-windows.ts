/**
 * How long one card behind two names stays unseen, by the rules that the validator uses (`sweep-windows.ts`, `sweep-moments.ts`). Simulated:
 * 8 idle GPUs a name, a look every 30 s. Names 0 and 1 share a card: where both are in one window, one of them
 * breaks. Any other breaks once in a thousand windows. Whoever broke is due again after 1, 4, 16 … minutes, at most a day.
 * Usage: `node bench/sweep-windows.ts [--days 60] [--runs 20]`: a few minutes.
 */
import { parseArgs } from 'node:util';
import { nextSweepMs, retrySweepMs } from '../workflows/domain/nodes/sweep-moments.ts';
import { SUSPECT_TIMES, sweepWindows, type SweptFleet } from '../workflows/domain/nodes/sweep-windows.ts';

const DAY_MS = 86_400_000;
const LOOK_MS = 30_000;
const { values } = parseArgs({
  options: { days: { type: 'string', default: '60' }, runs: { type: 'string', default: '20' } },
});
const [days, runs] = [Number(values.days), Number(values.runs)];

console.log(`${days} days, ${runs} runs; median and 95 % in days`);
console.log(
  'names | sweeps a name and day | until the two meet | from then to their publication | other pairs of theirs | pairs of others',
);
for (const names of [4, 16, 64, 256]) {
  const outcomes = Array.from({ length: runs }, () => simulate(names));
  const sweeps = outcomes.reduce((sum, each) => sum + each.sweeps, 0) / runs / names / days;
  const bystanders = outcomes.reduce((sum, each) => sum + each.bystanders, 0) / runs;
  const honest = outcomes.reduce((sum, each) => sum + each.honest, 0) / runs;
  const met = spread(outcomes.map(({ metAt }) => metAt));
  const published = spread(outcomes.map(({ metAt, publishedAt }) => publishedAt - metAt));
  console.log([names, sweeps.toFixed(1), met, published, bystanders.toFixed(1), honest.toFixed(1)].join(' | '));
}

interface Name {
  nextAt: number;
  lastAt: number | null;
  isVerified: boolean;
  failures: number;
  /** times it broke beside each since they held together */
  broke: Map<string, number>;
}

function simulate(count: number) {
  const names = new Map<string, Name>(
    Array.from({ length: count }, (_, at) => [
      String(at),
      { nextAt: Math.random() * DAY_MS, lastAt: null, isVerified: true, failures: 0, broke: new Map() },
    ]),
  );
  const nameOf = (key: string): Name => names.get(key) as Name;
  const [bystanders, honest] = [new Set<string>(), new Set<string>()];
  let [sweeps, metAt, publishedAt] = [0, Infinity, Infinity];
  for (;;) {
    const now = Math.ceil(Math.min(...[...names.values()].map(({ nextAt }) => nextAt)) / LOOK_MS) * LOOK_MS;
    if (now >= days * DAY_MS) break;
    const due = [...names]
      .filter(([, { nextAt }]) => nextAt <= now)
      .map(([minerHotkey]) => ({ minerHotkey, apartFrom: apart(minerHotkey) }));
    const fleets = [...names].flatMap(([minerHotkey, { isVerified, lastAt }]): SweptFleet[] =>
      isVerified
        ? [
            {
              minerHotkey,
              hosts: [minerHotkey],
              gpuTypes: ['one'],
              idleGpus: 8,
              sinceSweepMs: lastAt === null ? null : now - lastAt,
            },
          ]
        : [],
    );
    for (const { minerHotkeys } of sweepWindows({ due, fleets, random: Math.random })) {
      sweeps += minerHotkeys.length;
      const isMeeting = minerHotkeys.includes('0') && minerHotkeys.includes('1');
      if (isMeeting) metAt = Math.min(metAt, now);
      const silent = isMeeting ? String(Number(Math.random() < 0.5)) : null;
      const broke = new Set(minerHotkeys.filter((each) => each === silent || Math.random() < 0.001));
      for (const each of minerHotkeys) conclude(each, broke, minerHotkeys, now);
    }
  }
  return {
    sweeps,
    metAt: metAt / DAY_MS,
    publishedAt: publishedAt / DAY_MS,
    bystanders: bystanders.size,
    honest: honest.size,
  };

  function apart(key: string): string[] {
    const pairs = new Map(nameOf(key).broke);
    for (const [other, { broke }] of names)
      if (broke.has(key)) pairs.set(other, (pairs.get(other) ?? 0) + (broke.get(key) ?? 0));
    return [...pairs].sort(([, one], [, other]) => other - one || Math.random() - 0.5).map(([other]) => other);
  }

  function conclude(key: string, broke: ReadonlySet<string>, window: readonly string[], now: number): void {
    const name = nameOf(key);
    const held = window.filter((each) => !broke.has(each) && each !== key);
    name.lastAt = now;
    name.isVerified = !broke.has(key);
    name.failures = name.isVerified ? 0 : name.failures + 1;
    name.nextAt = now + (name.isVerified ? nextSweepMs(DAY_MS, Math.random) : retrySweepMs(name.failures, DAY_MS));
    for (const other of held) {
      if (name.isVerified) name.broke.delete(other);
      else if (window.length > 1) {
        const times = (name.broke.get(other) ?? 0) + 1;
        name.broke.set(other, times);
        if (times < SUSPECT_TIMES) continue;
        if (Number(key) < 2 && Number(other) < 2) publishedAt = Math.min(publishedAt, now);
        else (Number(key) < 2 || Number(other) < 2 ? bystanders : honest).add(`${key} ${other}`);
      }
    }
  }
}

function spread(waits: number[]): string {
  const sorted = waits.map((wait) => (Number.isFinite(wait) ? wait : Infinity)).sort((one, other) => one - other);
  const part = (share: number): string => {
    const wait = sorted[Math.floor(sorted.length * share)] ?? Infinity;
    return Number.isFinite(wait) ? wait.toFixed(1) : `more than ${days}`;
  };
  return `${part(0.5)}, ${part(0.95)}`;
}
