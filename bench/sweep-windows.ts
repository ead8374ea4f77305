/**
 * How long one card behind two names stays unseen: days until two given names share a sweep's window, and how often a GPU is
 * swept for it, by the rule that the validator uses. Simulated: 8 idle GPUs a name, one look every 30 s, moments drawn as in
 * `sweep-activities.ts`. Usage: `node bench/sweep-windows.ts [--days 200]`: a minute or two.
 */
import { parseArgs } from 'node:util';
import { sweepWindows, type SweptFleet } from '../workflows/domain/nodes/sweep-windows.ts';

const DAY_MS = 86_400_000;
const LOOK_MS = 30_000;
const { values } = parseArgs({ options: { days: { type: 'string', default: '200' } } });
const days = Number(values.days);

console.log('names | names a window | sweeps a name and day | days until two names meet: mean, median, 95 %');
for (const names of [2, 4, 16, 64, 256, 1024]) console.log(row(names));

function row(names: number): string {
  const nextAt = Array.from({ length: names }, () => Math.random() * DAY_MS);
  const lastAt: (number | null)[] = Array.from({ length: names }, () => null);
  /** when each pair with one of the first few names met */
  const watched = Math.min(names, 16);
  const meetings = Array.from({ length: watched }, () => Array.from({ length: names }, (): number[] => []));
  let [windows, swept] = [0, 0];
  for (;;) {
    const now = Math.ceil(Math.min(...nextAt) / LOOK_MS) * LOOK_MS;
    if (now >= days * DAY_MS) break;
    const due = nextAt.flatMap((at, name) => (at <= now ? [{ minerHotkey: String(name), apartFrom: [] }] : []));
    const fleets: SweptFleet[] = lastAt.map((at, name) => ({
      minerHotkey: String(name),
      hosts: [String(name)],
      gpuTypes: ['one'],
      idleGpus: 8,
      sinceSweepMs: at === null ? null : now - at,
      apartFrom: [],
    }));
    for (const { minerHotkeys } of sweepWindows({ due, fleets, random: Math.random })) {
      const together = minerHotkeys.map(Number);
      windows++;
      swept += together.length;
      for (const name of together) {
        lastAt[name] = now;
        nextAt[name] = now + Math.min(-Math.log(1 - Math.random()), 3) * DAY_MS;
        for (const other of together) if (other !== name) meetings[name]?.[other]?.push(now);
      }
    }
  }
  return [names, (swept / windows).toFixed(1), (swept / names / days).toFixed(1), apart(meetings)].join(' | ');
}

/** From each midnight of the first half to the next meeting, for every watched pair. */
function apart(meetings: number[][][]): string {
  const waits: number[] = [];
  for (const [name, others] of meetings.entries()) {
    for (const [other, met] of others.entries()) {
      if (other === name) continue;
      for (let from = 1; from < days / 2; from++)
        waits.push(((met.find((at) => at >= from * DAY_MS) ?? Infinity) - from * DAY_MS) / DAY_MS);
    }
  }
  waits.sort((one, other) => one - other);
  const part = (share: number): number => waits[Math.floor(waits.length * share)] ?? Infinity;
  const mean = waits.reduce((sum, wait) => sum + wait, 0) / waits.length;
  const inDays = (wait: number): string => (Number.isFinite(wait) ? wait.toFixed(1) : `more than ${days / 2}`);
  return [mean, part(0.5), part(0.95)].map(inDays).join(', ');
}
