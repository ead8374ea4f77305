/**
 * The launch conversation as the instance's workflow holds it: claim, commit, walk, proof, activation, each answered once,
 * refused when its moment is not now (spec/validator-api.md §2.6, spec/sdk-and-runtime.md §5.7).
 */
import {
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  condition,
  isCancellation,
  log,
  proxyActivities,
} from '@temporalio/workflow';
import type { ClaimOutcome } from '../../../activities/validator/instances/claim-instance.ts';
import type { InstanceActivities } from '../../../activities/validator/instances/instance-activities.ts';
import { isRefusalCode, type RefusalCode } from '../../domain/errors.ts';
import type { RemovalCode } from '../../domain/instances/removal.ts';
import {
  openingsKey,
  type OpeningsActivities,
  type OpeningsRefs,
  type ProofSession,
  type ProofSessionActivities,
  type ProofVerdict,
  type ProofVerificationActivities,
} from '../../domain/proof/plugin.ts';
import { summariseProof } from '../../domain/proof/proof-summary.ts';
import { TASK_QUEUES } from '../../task-queues.ts';
import type { ClaimInput, InstanceInput, InstanceState, InstanceStatus } from './messages.ts';
import { onceByContent } from './once-by-content.ts';
import { refuse } from './refuse.ts';

// Somebody waits for the answer: a fault that lasts longer than this is told, and the step can be tried again.
const { claimLaunch, gpusInSweep, recordVerified, recordActive } = proxyActivities<InstanceActivities>({
  startToCloseTimeout: '20 seconds',
  scheduleToCloseTimeout: '1 minute',
});
const { beginProof, acceptCommit, acceptWalk } = proxyActivities<ProofSessionActivities>({
  startToCloseTimeout: '10 seconds',
  scheduleToCloseTimeout: '30 seconds',
});
const { verifyProof } = proxyActivities<ProofVerificationActivities>({
  taskQueue: TASK_QUEUES.gpu,
  startToCloseTimeout: '5 minutes',
  heartbeatTimeout: '30 seconds', // how soon a dead verifier is noticed
  scheduleToCloseTimeout: '10 minutes',
});

const { dropOpenings } = proxyActivities<OpeningsActivities>({
  taskQueue: TASK_QUEUES.gpu,
  startToCloseTimeout: '20 seconds',
  scheduleToCloseTimeout: '1 minute', // what stays behind is swept within a day
});

/** Refused claims a permission may see before it is burned: each leaves a trace in the history. */
const MAX_REFUSED_CLAIMS = 20;

/** Of one claim four minutes, the runtime's patience with one answer; of a permission ten: each look is in its history. */
const SWEEP_LOOK_MS = 3000;
const MAX_SWEEP_LOOKS = 80;
const MAX_SWEEP_LOOKS_IN_ALL = 200;

export interface LaunchContext {
  input: InstanceInput;
  state: InstanceState;
  become: (status: InstanceStatus) => void;
  remove: (code: RemovalCode, evidence?: Record<string, unknown>) => void;
  tellChute: (status: 'verified' | 'active') => Promise<void>;
}

type Commit = { roots: Record<string, string>; receivedAtMs: number };
type Walk = { walks: Record<string, { digest: string; trace_root: string }>; receivedAtMs: number };
type Announcement = { gpuUuid: string; sha256: string };
type Proof = { openings: OpeningsRefs | null; receivedAtMs: number };

export function conductLaunch({ input, state, become, remove, tellChute }: LaunchContext) {
  const { instanceId, configId, minerHotkey } = input;
  const ids = { instanceId, configId, chuteId: input.chuteId };
  let writing = 0;
  let refusedClaims = 0;
  let sweepLooks = 0;
  let provedAtMs: number | null = null;
  let hasDropped = false;
  let verification: CancellationScope | null = null;

  /** Row-changing activities: a cancelled workflow lets them end, and its clean-up waits for them. */
  const write = async <T>(run: () => Promise<T>): Promise<T> => {
    writing += 1;
    try {
      return await CancellationScope.nonCancellable(run);
    } finally {
      writing -= 1;
    }
  };
  const demand = (isNow: boolean, code: RefusalCode, detail: string): void => {
    if (state.removal) throw refuse(code === 'auth.unauthorized' ? code : 'resource.not_found', 'Instance was deleted');
    if (!isNow) throw refuse(code, detail);
  };
  const sessionNow = (): ProofSession => {
    if (!state.session) throw refuse('proof.not_awaited', 'no proof is awaited');
    return state.session;
  };
  /** The fault of a step whose row may be half way: nothing the miner did. */
  const giveUp = (step: string): ApplicationFailure => {
    remove('validator_fault', { step });
    return refuse('service.unavailable', `the validator could not complete the ${step}`);
  };

  async function claim(claim: ClaimInput): Promise<{ session: ProofSession }> {
    become('claiming');
    const outcome = await claimOnceFree(claim).catch((err: unknown) => {
      if (isCancellation(err)) throw refuse('resource.not_found', 'Instance was deleted'); // nothing is half way
      log.error('instance.claim_failed', { ...ids, err: String(err) });
      throw giveUp('claim');
    });
    if (outcome.kind === 'awaiting') {
      if (state.removal) throw refuse('resource.not_found', 'Instance was deleted');
      become('permitted');
      throw refuse('service.unavailable', `GPU ${outcome.gpuUuids.join(', ')} is being proven, try again`);
    }
    if (outcome.kind === 'refused') {
      refusedClaims += 1;
      if (outcome.removal) remove(outcome.removal, { refused: outcome.detail });
      else if (refusedClaims >= MAX_REFUSED_CLAIMS)
        remove('claim_refused', { refused: outcome.detail, claims: refusedClaims });
      else become('permitted');
      throw refuse(outcome.code, outcome.detail);
    }
    const { plugin, gpus } = outcome;
    const transportPublicKey = claim.transportPublicKey ?? '';
    const session = await write(() => beginProof({ plugin, configId, minerHotkey, transportPublicKey, gpus })).catch(
      (err: unknown) => {
        const refusal = refusalOf(err);
        if (!refusal) log.error('instance.proof_not_begun', { ...ids, err: String(err) });
        if (!refusal) throw giveUp('claim');
        remove('claim_refused', { refused: refusal.detail });
        throw refuse(refusal.code, refusal.detail);
      },
    );
    state.session = session;
    state.claimedAtMs = state.answeredAtMs = Date.now();
    if (state.removal) throw refuse('resource.not_found', 'Instance was deleted');
    become('claimed');
    return { session };
  }

  /** A sweep of the miner's idle GPUs holds some of these for less than a minute: the claim waits for its end. */
  async function claimOnceFree(claim: ClaimInput): Promise<ClaimOutcome> {
    const gpuUuids = claim.gpus.map(({ uuid }) => uuid);
    for (let looks = 0; ;) {
      const outcome = await write(() => claimLaunch({ instanceId, configId, claim }));
      if (outcome.kind !== 'awaiting') return outcome;
      if (looks === 0) log.info('instance.claim_awaits_sweep', { ...ids, gpuUuids: outcome.gpuUuids });
      // A claim is tens of kilobytes in the history: between two of them only uuids are asked about.
      for (let held = outcome.gpuUuids; held.length > 0; looks++, sweepLooks++) {
        if (looks >= MAX_SWEEP_LOOKS || sweepLooks >= MAX_SWEEP_LOOKS_IN_ALL) return outcome;
        if (await condition(() => state.removal !== null, SWEEP_LOOK_MS)) return outcome;
        const seen = await stillHeld(gpuUuids);
        if (!seen) return outcome;
        held = seen;
      }
    }
  }
  async function stillHeld(gpuUuids: string[]): Promise<string[] | null> {
    try {
      return await gpusInSweep({ gpuUuids });
    } catch (err) {
      if (isCancellation(err)) throw err;
      log.warn('instance.sweep_not_seen', { ...ids, err: String(err) }); // nothing was written: the claim can come again
      return null;
    }
  }

  async function step(elapsedMs: number, limitMs: number, run: () => Promise<ProofSession>): Promise<ProofSession> {
    try {
      const session = await write(run);
      state.session = session;
      state.answeredAtMs = Date.now();
      return session;
    } catch (err) {
      const refusal = refusalOf(err);
      if (!refusal) throw refuse('service.unavailable', 'the proof step could not be taken, try again');
      if (refusal.code === 'proof.refused')
        remove(elapsedMs > limitMs ? 'proof_late' : 'proof_wrong', { refused: refusal.detail, elapsedMs, limitMs });
      throw refuse(refusal.code, refusal.detail);
    }
  }

  async function commit({ roots, receivedAtMs }: Commit): Promise<{ nonce2: string }> {
    const session = sessionNow();
    const elapsedMs = since(state.answeredAtMs, receivedAtMs);
    const limitMs = Math.max(...session.challenges.map(({ profile }) => profile.fillLimitMs));
    const { nonce2 } = await step(elapsedMs, limitMs, () => acceptCommit({ session, roots, elapsedMs }));
    if (nonce2 === null) throw new Error('a commit was accepted without nonce 2');
    state.fillMs = elapsedMs;
    if (!state.removal) become('committed');
    return { nonce2 };
  }

  async function walk({ walks, receivedAtMs }: Walk): Promise<{ samples: NonNullable<ProofSession['samples']> }> {
    const session = sessionNow();
    const elapsedMs = since(state.answeredAtMs, receivedAtMs);
    const limitMs = Math.max(...session.challenges.map(({ profile }) => profile.walkLimitMs));
    const { samples } = await step(elapsedMs, limitMs, () => acceptWalk({ session, walks, elapsedMs }));
    if (samples === null) throw new Error('a walk was accepted without samples');
    state.walkMs = elapsedMs;
    if (!state.removal) become('walked');
    return { samples };
  }

  function announce({ gpuUuid, sha256 }: Announcement): void {
    demandAnnounceable({ gpuUuid, sha256 }); // again: two may have passed the validator before either got here
    state.openings = { ...state.openings, [gpuUuid]: sha256 };
  }
  function demandAnnounceable({ gpuUuid, sha256 }: Announcement): void {
    const known = state.openings?.[gpuUuid];
    demand(state.status === 'walked' || known === sha256, 'proof.not_awaited', 'no openings are awaited');
    demand(
      state.session?.challenges.some(({ binding }) => binding.gpuUuid === gpuUuid) ?? false,
      'resource.not_found',
      `GPU ${gpuUuid} is not part of this launch`,
    );
    demand(
      known === undefined || known === sha256,
      'resource.conflict',
      `other openings of GPU ${gpuUuid} were sent before`,
    );
  }

  async function prove({ openings, receivedAtMs }: Proof): Promise<{ verifiedAt: string }> {
    const session = sessionNow();
    const before = state.status;
    provedAtMs ??= receivedAtMs; // before the first await. Sent again after a fault of ours, it is as early as it was
    const elapsedMs = since(state.claimedAtMs, provedAtMs);
    if (elapsedMs > session.deadlineMs) {
      remove('proof_late', { elapsedMs, limitMs: session.deadlineMs });
      throw refuse('proof.refused', 'PoVW: proof took longer than the GPU type allows');
    }
    become('proving');
    const verdict = await verdictOn(session, openings);
    if (state.removal) throw refuse('resource.not_found', 'Instance was deleted');
    if (!verdict) {
      become(before);
      throw refuse('gpu.busy', 'the proof could not be checked now, send it again');
    }
    const summary = summariseProof(session, verdict, state.fillMs ?? null, state.walkMs ?? null);
    if (!verdict.verified) {
      remove('proof_wrong', { reason: verdict.reason, proof: summary });
      throw refuse('proof.refused', `PoVW: proof verification failed: ${verdict.reason}`);
    }
    const { verifiedAtMs } = await write(() => recordVerified({ instanceId, summary })).catch((err: unknown) => {
      become(before);
      throw refusalOf(err) ? err : refuse('service.unavailable', 'the proof could not be recorded, send it again');
    });
    state.verifiedAtMs = verifiedAtMs;
    if (state.removal) throw refuse('resource.not_found', 'Instance was deleted');
    become('verified');
    void dropReceived();
    await tellChute('verified');
    return { verifiedAt: new Date(verifiedAtMs).toISOString() };
  }

  /** The record has their bytes, or there is no verdict any more to look at them for: not before, a step may come again. */
  async function dropReceived(): Promise<void> {
    const keys = Object.values(state.openings ?? {}).map((sha256) => openingsKey(configId, sha256));
    if (keys.length === 0 || hasDropped) return;
    hasDropped = true;
    try {
      await CancellationScope.nonCancellable(() => dropOpenings({ keys }));
    } catch (err) {
      log.warn('instance.openings_not_dropped', { ...ids, err: String(err) });
    }
  }

  /** Null when the verifier itself failed. A removal decided meanwhile ends the wait. */
  async function verdictOn(session: ProofSession, openings: Proof['openings']): Promise<ProofVerdict | null> {
    verification = new CancellationScope({ cancellable: true });
    try {
      return await verification.run(() => verifyProof({ session, openings }));
    } catch (err) {
      const refusal = refusalOf(err);
      if (refusal?.code === 'proof.refused') return { verified: false, reason: refusal.detail, verdicts: [] };
      if (!isCancellation(err)) log.error('instance.proof_not_checked', { ...ids, err: String(err) });
      return null;
    } finally {
      verification = null;
    }
  }

  async function activate(): Promise<{ activatedAt: string }> {
    if (state.activatedAtMs !== null) return { activatedAt: new Date(state.activatedAtMs).toISOString() };
    const outcome = await write(() => recordActive({ instanceId })).catch((err: unknown) => {
      throw refusalOf(err) ? err : refuse('service.unavailable', 'the activation could not be recorded, try again');
    });
    if (outcome.kind === 'at_target') {
      const { activeCount, targetCount } = outcome;
      remove('target_reached', { activeCount, targetCount });
      throw refuse('launch.not_scalable', `chute already has >= target_count=${targetCount} active instances`);
    }
    if (state.removal) throw refuse('resource.not_found', 'Instance was deleted');
    state.activatedAtMs = outcome.activatedAtMs;
    state.session = withoutAnswers(state.session);
    become('active');
    await tellChute('active');
    return { activatedAt: new Date(outcome.activatedAtMs).toISOString() };
  }

  const claims = onceByContent(claim);
  const commits = onceByContent(commit);
  const walks = onceByContent(walk);
  const proofs = onceByContent(prove);
  const activations = onceByContent<null, { activatedAt: string }>(activate);
  const hasSteps = (): boolean => (state.session?.challenges.length ?? 0) > 0;

  return {
    isWriting: (): boolean => writing > 0,
    hasProof: (): boolean => provedAtMs !== null,
    dropReceived,
    abandonVerification: (): void => verification?.cancel(),
    claim: {
      answer: claims.answer,
      validate: (input: ClaimInput): void => {
        const isRepeat = claims.isRepeat(input);
        demand(isRepeat || state.status === 'permitted', 'auth.unauthorized', 'launch token was already used');
        demand(
          isRepeat || sweepLooks < MAX_SWEEP_LOOKS_IN_ALL,
          'service.unavailable',
          'the GPUs of this launch were being proven for too long: ask for another permission',
        );
      },
    },
    commit: {
      answer: commits.answer,
      validate: (input: Commit): void =>
        demand(
          (state.status === 'claimed' && hasSteps()) || commits.isRepeat(input),
          'proof.not_awaited',
          'no commitment is awaited',
        ),
    },
    walk: {
      answer: walks.answer,
      validate: (input: Walk): void =>
        demand(state.status === 'committed' || walks.isRepeat(input), 'proof.not_awaited', 'no walk is awaited'),
    },
    announce: { answer: announce, validate: demandAnnounceable },
    prove: {
      answer: proofs.answer,
      validate: (input: Proof): void =>
        demand(
          state.status === (hasSteps() ? 'walked' : 'claimed') || proofs.isRepeat(input),
          'proof.not_awaited',
          'no proof is awaited',
        ),
    },
    activate: {
      answer: (): Promise<{ activatedAt: string }> => activations.answer(null),
      validate: (): void =>
        demand(['verified', 'active', 'disabled'].includes(state.status), 'auth.forbidden', 'instance is not verified'),
    },
  };
}

const since = (earlierMs: number | null, nowMs: number): number => Math.max(0, nowMs - (earlierMs ?? nowMs));

/** Samples are kilobytes nobody asks for again once the secret is out; a long life carries its state along. */
const withoutAnswers = (session: ProofSession | null): ProofSession | null =>
  session ? { ...session, samples: null } : null;

function refusalOf(err: unknown): { code: RefusalCode; detail: string } | null {
  const failure = err instanceof ActivityFailure ? err.cause : err;
  return failure instanceof ApplicationFailure && isRefusalCode(failure.type)
    ? { code: failure.type, detail: failure.message }
    : null;
}
