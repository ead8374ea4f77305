import { condition } from '@temporalio/workflow';
import { groupsOf } from '../../domain/nodes/proof-groups.ts';
import type { ProofSummary } from '../../domain/proof/plugin.ts';
import type { VerificationOutcome } from './messages.ts';
import { MAX_START_SPREAD_MS, verifyNodes, type ProofWindow, type VerifyNodes } from './verify-nodes.ts';

/** A few GPUs wherever they stand: all fill, then all walk, so that none lends its memory to another. One outcome for all. */
export async function verifyInOneWindow(input: Omit<VerifyNodes, 'window'>): Promise<VerificationOutcome> {
  const groups = groupsOf(input.nodes);
  const [filling, walking] = [new Set(groups.keys()), new Set(groups.keys())];
  const starts: number[] = [];
  const outcomes = await Promise.all(
    groups.map(async (nodes, group) => {
      const window: ProofWindow = {
        filled: async () => {
          filling.delete(group);
          await condition(() => filling.size === 0);
          return true;
        },
        walked: async (startedAtMs) => {
          starts.push(startedAtMs);
          walking.delete(group);
          await condition(() => walking.size === 0);
          return areTogether(starts);
        },
      };
      // one that fails holds nobody up
      return verifyNodes({ ...input, nodes, window }).finally(() => {
        filling.delete(group);
        walking.delete(group);
      });
    }),
  );
  return mergedOutcome(outcomes);
}

export const areTogether = (starts: readonly number[]): boolean =>
  starts.length < 2 || Math.max(...starts) - Math.min(...starts) <= MAX_START_SPREAD_MS;

/** Verified when all are; else what speaks loudest: wrong, silent, unclear. */
export function mergedOutcome(outcomes: readonly VerificationOutcome[]): VerificationOutcome {
  for (const kind of ['failed', 'silent', 'unclear'] as const) {
    const found = outcomes.find((outcome) => outcome.kind === kind);
    if (found) return found;
  }
  const [first, ...rest] = outcomes.filter((outcome) => outcome.kind === 'verified');
  if (!first) return { kind: 'unclear', reason: 'there was nothing to prove' };
  return rest.reduce(
    (whole, { atMs, summary }) => ({
      ...whole,
      atMs: Math.max(whole.atMs, atMs),
      summary: {
        ...whole.summary,
        gpus: [...whole.summary.gpus, ...summary.gpus],
        fillMs: slower(whole.summary, summary, 'fillMs'),
        walkMs: slower(whole.summary, summary, 'walkMs'),
      },
    }),
    first,
  );
}

const slower = (one: ProofSummary, other: ProofSummary, time: 'fillMs' | 'walkMs'): number | null =>
  one[time] === null && other[time] === null ? null : Math.max(one[time] ?? 0, other[time] ?? 0);
