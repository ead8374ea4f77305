import {
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  isCancellation,
  log,
  proxyActivities,
  uuid4,
} from '@temporalio/workflow';
import type { AgentAnswer, NodeActivities, OnAgent } from '../../../activities/validator/nodes/node-activities.ts';
import { openingsBytesAtMost } from '../../domain/proof/profile-rows.ts';
import type {
  OpeningsActivities,
  OpeningsRefs,
  ProofSession,
  ProofSessionActivities,
  ProofVerificationActivities,
} from '../../domain/proof/plugin.ts';
import { summariseProof } from '../../domain/proof/proof-summary.ts';
import { TASK_QUEUES } from '../../task-queues.ts';
import type { NodePolicy, ProvableNode, VerificationOutcome } from './messages.ts';

const { beginProof, acceptCommit, acceptWalk } = proxyActivities<ProofSessionActivities>({
  startToCloseTimeout: '10 seconds',
  scheduleToCloseTimeout: '1 minute', // a prover holds its memory meanwhile
});
const { verifyProof } = proxyActivities<ProofVerificationActivities>({
  taskQueue: TASK_QUEUES.gpu,
  startToCloseTimeout: '10 minutes',
  heartbeatTimeout: '30 seconds',
  scheduleToCloseTimeout: '30 minutes',
});
const { dropOpenings } = proxyActivities<OpeningsActivities>({
  taskQueue: TASK_QUEUES.gpu,
  startToCloseTimeout: '30 seconds',
  scheduleToCloseTimeout: '2 minutes',
});
const { askDeviceInfo, releaseAgent } = proxyActivities<NodeActivities>({
  taskQueue: TASK_QUEUES.agents,
  startToCloseTimeout: '30 seconds',
  retry: { maximumAttempts: 3 },
});
const { openOnAgent } = proxyActivities<NodeActivities>({
  taskQueue: TASK_QUEUES.openings,
  startToCloseTimeout: '12 minutes', // longer than the agent may take: what runs out is its time, not ours
  heartbeatTimeout: '30 seconds',
  retry: { maximumAttempts: 3 },
});
/** For all openings: a minute, and for each GPU's, up to 16 MiB, what a slow line takes. */
const OPEN_MS = 60_000;
const OPEN_GPU_MS = 20_000;

/** Slower than the limit is refused; the line gets this much more to say so. */
const LINE_MS = 15_000;
/** A timed step is never repeated within a proof: a second answer could be prepared while the first one "was lost". */
const timed = (limitMs: number) =>
  proxyActivities<NodeActivities>({
    taskQueue: TASK_QUEUES.agents,
    startToCloseTimeout: limitMs + 2 * LINE_MS,
    heartbeatTimeout: '30 seconds',
    retry: { maximumAttempts: 1 },
  });

export interface VerifyNodes {
  nodes: ProvableNode[];
  minerHotkey: string;
  plugin: NodePolicy['plugin'];
  configId: string;
  window: ProofWindow;
}

/** What several proofs do at the same time. */
export interface ProofWindow {
  /** All GPUs have committed: the walk begins when this resolves. False: the others have gone ahead. */
  filled: () => Promise<boolean>;
  /** The walk has begun at `startedAtMs`, and ended. False: it was not at the same time as the others. */
  walked: (startedAtMs: number) => Promise<boolean>;
}

/** Walks that begin further apart than this prove too little: one card might serve one after the other. */
export const MAX_START_SPREAD_MS = 2000;

/** One proof of GPUs of one type behind one agent, which fill and walk simultaneously. Faults are outcomes. */
export async function verifyNodes(input: VerifyNodes): Promise<VerificationOutcome> {
  try {
    return await prove(input);
  } catch (err) {
    if (isCancellation(err)) throw err;
    const refusal = refusalOf(err);
    if (refusal) return failed(refusal);
    log.warn('node.proof_unclear', { configId: input.configId, error: String(err) });
    return { kind: 'unclear', reason: 'the validator could not finish the proof' };
  }
}

async function prove(input: VerifyNodes): Promise<VerificationOutcome> {
  const { nodes, minerHotkey, plugin, configId } = input;
  if (plugin !== 'none') {
    const told = await askDeviceInfo({ nodes, minerHotkey });
    if (told.kind !== 'answered') return unanswered('device info', told);
  }
  const session = await beginProof({
    plugin,
    configId,
    minerHotkey,
    transportPublicKey: '0'.repeat(64),
    gpus: nodes.map(({ uuid, gpuType, vramBytes }) => ({ uuid, gpuType, vramBytes })),
  });
  if (plugin === 'none') return conclude(session, null, null, null);
  const answers = await askAgents(session, input);
  if (answers.kind !== 'opened') return answers;
  return conclude(answers.session, answers.openings, answers.fillMs, answers.walkMs);
}

interface Opened {
  kind: 'opened';
  session: ProofSession;
  openings: OpeningsRefs;
  fillMs: number;
  walkMs: number;
}

/** The GPUs' memory is free again when this ends, whatever came of it: judging the openings does not need it. */
async function askAgents(session: ProofSession, input: VerifyNodes): Promise<Opened | VerificationOutcome> {
  const { nodes, minerHotkey, configId } = input;
  const agents = { nodes, minerHotkey, session: uuid4() };
  try {
    return await converse(session, agents, input.window);
  } finally {
    await CancellationScope.nonCancellable(() => releaseAgent(agents)).catch((err: unknown) => {
      log.info('node.agent_not_released', { configId, error: String(err) }); // it expires by itself
    });
  }
}

async function converse(
  begun: ProofSession,
  agents: OnAgent,
  window: ProofWindow,
): Promise<Opened | VerificationOutcome> {
  const fillLimitMs = Math.max(...begun.challenges.map(({ profile }) => profile.fillLimitMs));
  const walkLimitMs = Math.max(...begun.challenges.map(({ profile }) => profile.walkLimitMs));

  const committed = await timed(fillLimitMs).commitOnAgent({
    ...agents,
    challenges: begun.challenges,
    withinMs: fillLimitMs + LINE_MS,
  });
  if (committed.kind !== 'answered') return unanswered('commit', committed);
  const waiting = await acceptCommit({ session: begun, roots: committed.value, elapsedMs: committed.elapsedMs });
  if (!(await window.filled())) return { kind: 'silent', reason: 'commit: the other GPUs were ready long before' };

  const walked = await timed(walkLimitMs).walkOnAgent({
    ...agents,
    nonce2: waiting.nonce2 ?? '',
    withinMs: walkLimitMs + LINE_MS,
  });
  // Silence would be a second chance, with hardware fetched meanwhile.
  if (walked.kind !== 'answered') return failed(`walk: ${walked.detail}`);
  const { walks, startedAtMs } = walked.value;
  const sampled = await acceptWalk({ session: waiting, walks, elapsedMs: walked.elapsedMs });
  if (!(await window.walked(startedAtMs)))
    return { kind: 'unclear', reason: 'the walks of this window did not begin together' };

  const opened = await openOnAgent({
    ...agents,
    samples: sampled.samples ?? {},
    budgetMs: OPEN_MS + OPEN_GPU_MS * agents.nodes.length,
    maxBytes: Object.fromEntries(
      begun.challenges.map(({ binding, profile }) => [binding.gpuUuid, openingsBytesAtMost(profile)]),
    ),
  });
  // Whoever stays silent once the samples are known would otherwise get other ones.
  if (opened.kind !== 'answered') return failed(`open: ${opened.detail}`);
  return {
    kind: 'opened',
    session: sampled,
    openings: opened.value,
    fillMs: committed.elapsedMs,
    walkMs: walked.elapsedMs,
  };
}

async function conclude(
  session: ProofSession,
  openings: OpeningsRefs | null,
  fillMs: number | null,
  walkMs: number | null,
): Promise<VerificationOutcome> {
  const verdict = await verifyProof({ session, openings });
  if (openings) await dropped(openings);
  const summary = summariseProof(session, verdict, fillMs, walkMs);
  if (verdict.verified) return { kind: 'verified', atMs: Date.now(), summary };
  const culprit = verdict.verdicts.find((each) => !each.verified);
  return failed(culprit ? `GPU ${culprit.gpuUuid}: ${verdict.reason}` : verdict.reason, summary);
}

/** The verdict is in the history and the record has the bytes; what stays behind is swept away later. */
async function dropped(openings: OpeningsRefs): Promise<void> {
  await dropOpenings({ keys: Object.values(openings).map(({ key }) => key) }).catch((err: unknown) => {
    if (isCancellation(err)) throw err;
    log.info('node.openings_not_dropped', { error: String(err) });
  });
}

function unanswered(step: string, answer: Exclude<AgentAnswer<unknown>, { kind: 'answered' }>): VerificationOutcome {
  const reason = `${step}: ${answer.detail}`;
  return answer.kind === 'silent' ? { kind: 'silent', reason } : failed(reason);
}

/** The text of a step's "no" (late, malformed); null when the error is a fault. */
function refusalOf(err: unknown): string | null {
  const cause = err instanceof ActivityFailure ? err.cause : err;
  return cause instanceof ApplicationFailure && (cause.type === 'proof.refused' || cause.type === 'request.invalid')
    ? cause.message
    : null;
}

/** An agent that never answered, or a proof we never finished, ends as a failure with its reason. */
export function settledOf(outcome: VerificationOutcome): Extract<VerificationOutcome, { kind: 'verified' | 'failed' }> {
  return outcome.kind === 'verified' || outcome.kind === 'failed' ? outcome : failed(outcome.reason);
}

type Failed = Extract<VerificationOutcome, { kind: 'failed' }>;
const failed = (reason: string, summary: Failed['summary'] = null): Failed => ({
  kind: 'failed',
  reason,
  atMs: Date.now(),
  summary,
});
