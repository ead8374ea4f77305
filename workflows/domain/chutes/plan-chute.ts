import { isStalled, STALLED_AFTER_MS, type Launch } from './decide-launch.ts';

/** A move to a new version. `waiting` are the old instances whose miners have not been told yet, in the order they will be. */
export interface RollingUpdate {
  oldVersion: string;
  newVersion: string;
  startedAtMs: number;
  gapMs: number;
  nextNoticeAtMs: number;
  waiting: string[];
  /** miner hotkey → replacement launches left */
  permitted: Record<string, number>;
}

export interface ChuteSituation {
  nowMs: number;
  version: string;
  targetCount: number;
  deleting: boolean;
  launches: Readonly<Record<string, Launch>>;
  rolling: RollingUpdate | null;
  wantingSinceMs: number | null;
  announcedAtMs: number | null;
  /** somebody asked for the chute since the last announcement */
  demanded: boolean;
}

export type ChuteStep =
  | { kind: 'remove'; instanceId: string; code: 'scaled_down' | 'old_version' | 'chute_deleted' }
  | { kind: 'notify_update'; instanceId: string }
  | { kind: 'end_update' }
  | { kind: 'announce'; bounty: number };

export interface ChutePlan {
  steps: ChuteStep[];
  status: 'satisfied' | 'wanting' | 'updating' | 'scaling_down' | 'deleting';
  wantingSinceMs: number | null;
  /** when to look again though nothing was heard; null = only when something is */
  wakeAtMs: number | null;
}

export const ANNOUNCE_EVERY_MS = 30_000;
const DEMAND_EVERY_MS = 5_000;
export const UPDATE_WINDOW_MS = 3_600_000;
const MAX_BOUNTY = 86_400;

/** 100, and 3 for every second the chute has wanted, at most 86,400 (spec/validator-api.md §5.3). */
export const bountyAmount = (wantingMs: number): number => Math.min(100 + 3 * Math.floor(wantingMs / 1000), MAX_BOUNTY);

/** Gap between two rolling-update notices: 45 minutes over the instances, 1 s to 5 min (spec/validator-api.md §4.1). */
export const noticeGapMs = (instanceCount: number): number =>
  Math.min(300, Math.max(1, Math.floor(2700 / instanceCount))) * 1000;

/** A rolling update of what is active now on other versions; null when nothing is. Miners are told in the order of lots. */
export function planRollingUpdate({
  nowMs,
  oldVersion,
  newVersion,
  launches,
}: {
  nowMs: number;
  oldVersion: string;
  newVersion: string;
  launches: Readonly<Record<string, Launch>>;
}): RollingUpdate | null {
  const old = Object.entries(launches).filter(
    ([, launch]) => launch.active && launch.removal === null && launch.version !== newVersion,
  );
  if (old.length === 0) return null;
  const permitted: Record<string, number> = {};
  for (const [, { minerHotkey }] of old) permitted[minerHotkey] = (permitted[minerHotkey] ?? 0) + 1;
  const waiting = old
    .toSorted(([a, one], [b, other]) => one.lot - other.lot || (a < b ? -1 : 1))
    .map(([instanceId]) => instanceId);
  return {
    oldVersion,
    newVersion,
    startedAtMs: nowMs,
    gapMs: noticeGapMs(old.length),
    nextNoticeAtMs: nowMs,
    waiting,
    permitted,
  };
}

/** What to do now, in order, so that the chute has exactly what it wants. Pure: the workflow carries it out and asks again. */
export function planChute(situation: ChuteSituation): ChutePlan {
  const live = Object.entries(situation.launches).filter(([, launch]) => launch.removal === null);
  if (situation.deleting) {
    const steps = live.map(([instanceId]): ChuteStep => ({ kind: 'remove', instanceId, code: 'chute_deleted' }));
    return { steps, status: 'deleting', wantingSinceMs: null, wakeAtMs: null };
  }
  const { nowMs, version, rolling } = situation;
  const current = live.filter(([, launch]) => launch.version === version);
  const old = live.filter(([, launch]) => launch.version !== version);
  const updateEnds = rolling !== null && isUpdateOver(situation, current, old);
  const steps: ChuteStep[] = [];

  // While an update runs, the old instances that serve stay; what only starts on the old version never will serve.
  const retired = rolling && !updateEnds ? old.filter(([, launch]) => !launch.active) : old;
  steps.push(...retired.map(([instanceId]): ChuteStep => ({ kind: 'remove', instanceId, code: 'old_version' })));
  if (updateEnds) steps.push({ kind: 'end_update' });
  if (rolling && !updateEnds && nowMs >= rolling.nextNoticeAtMs) {
    const [next] = rolling.waiting;
    if (next !== undefined) steps.push({ kind: 'notify_update', instanceId: next });
  }
  const surplus = surplusOf(current, situation);
  steps.push(...surplus.map((instanceId): ChuteStep => ({ kind: 'remove', instanceId, code: 'scaled_down' })));

  const promised = current.filter(([, launch]) => !isStalled(launch, nowMs)).length;
  const wants = promised < situation.targetCount;
  const wantingSinceMs = wants ? (situation.wantingSinceMs ?? nowMs) : null;
  const announces = wantingSinceMs !== null && (rolling === null || updateEnds);
  const announceAtMs = announces ? nextAnnouncement(situation, nowMs) : null;
  if (announceAtMs !== null && wantingSinceMs !== null && announceAtMs <= nowMs) {
    steps.push({ kind: 'announce', bounty: bountyAmount(nowMs - wantingSinceMs) });
  }
  return {
    steps,
    status: statusOf(situation, wants, surplus.length > 0),
    wantingSinceMs,
    wakeAtMs: wakeAt(situation, current, announceAtMs),
  };
}

type Entry = [string, Launch];

/** Over when the new version serves the target, nothing old is left, or the window has passed. */
function isUpdateOver({ rolling, nowMs, targetCount }: ChuteSituation, current: Entry[], old: Entry[]): boolean {
  if (!rolling) return false;
  const serving = current.filter(([, launch]) => launch.active).length;
  return (
    serving >= targetCount ||
    !old.some(([, launch]) => launch.active) ||
    nowMs >= rolling.startedAtMs + UPDATE_WINDOW_MS
  );
}

/** Above the target, what starts goes before what serves, then by lot. A stalled launch's stand-in is no surplus until enough serve. */
function surplusOf(current: Entry[], { targetCount, nowMs }: ChuteSituation): string[] {
  const byLot = ([a, one]: Entry, [b, other]: Entry) => one.lot - other.lot || (a < b ? -1 : 1);
  const active = current.filter(([, launch]) => launch.active).toSorted(byLot);
  const starting = current.filter(([, launch]) => !launch.active).toSorted(byLot);
  if (active.length >= targetCount) {
    return [...starting, ...active.slice(0, active.length - targetCount)].map(([instanceId]) => instanceId);
  }
  const moving = starting.filter(([, launch]) => !isStalled(launch, nowMs));
  return moving.slice(0, Math.max(0, active.length + moving.length - targetCount)).map(([instanceId]) => instanceId);
}

function nextAnnouncement({ announcedAtMs, demanded }: ChuteSituation, nowMs: number): number {
  if (announcedAtMs === null) return nowMs;
  return announcedAtMs + (demanded ? DEMAND_EVERY_MS : ANNOUNCE_EVERY_MS);
}

function statusOf({ rolling, launches }: ChuteSituation, wants: boolean, shrinks: boolean): ChutePlan['status'] {
  if (rolling) return 'updating';
  if (shrinks || Object.values(launches).some((launch) => launch.removal === 'scaled_down')) return 'scaling_down';
  return wants ? 'wanting' : 'satisfied';
}

function wakeAt({ rolling, nowMs }: ChuteSituation, current: Entry[], announceAtMs: number | null): number | null {
  const moments = current
    .filter(([, launch]) => !launch.active && !launch.verified && !isStalled(launch, nowMs))
    .map(([, launch]) => launch.permittedAtMs + STALLED_AFTER_MS);
  if (rolling)
    moments.push(
      rolling.startedAtMs + UPDATE_WINDOW_MS,
      ...(rolling.waiting.length > 0 ? [rolling.nextNoticeAtMs] : []),
    );
  if (announceAtMs !== null) moments.push(announceAtMs);
  return moments.length === 0 ? null : Math.min(...moments);
}
