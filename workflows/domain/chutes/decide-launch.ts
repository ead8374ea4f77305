/** One permission to launch, from the moment it is given until its instance is gone. */
export interface Launch {
  minerHotkey: string;
  version: string;
  permittedAtMs: number;
  verified: boolean;
  active: boolean;
  /** why its end was asked for; it then counts for nothing */
  removal: string | null;
  /** drawn once: settles ties between equals */
  lot: number;
}

export interface LaunchSituation {
  nowMs: number;
  minerHotkey: string;
  version: string;
  targetCount: number;
  launches: Readonly<Record<string, Launch>>;
  /** miners' remaining replacement launches while a rolling update runs */
  permitted: Readonly<Record<string, number>> | null;
  /** since when the chute has had fewer than it wants */
  wantingSinceMs: number | null;
  /** other miners that could take the launch now; unknown counts as some */
  rivals?: number;
}

export type LaunchRefusal = 'stopped' | 'miner_cap' | 'slots_promised' | 'update_quota' | 'target_reached' | 'monopoly';
export type LaunchDecision =
  | { kind: 'permitted'; permitted: Record<string, number> | null }
  | { kind: 'refused'; rule: LaunchRefusal; detail: string };

/** Permissions one miner may hold that do not serve yet: a miner that claims nothing must not hold a chute's every slot. */
export const MAX_OUTSTANDING_PER_MINER = 4;
/** A permission this old without a proven GPU no longer keeps others out; its own deadline ends it later. */
export const STALLED_AFTER_MS = 600_000;
/** How long the last slots are kept for other miners that could take them. A slot nobody else wants is served. */
export const MONOPOLY_HEAD_START_MS = 60_000;

export const isStalled = (launch: Launch, nowMs: number): boolean =>
  !launch.active && !launch.verified && nowMs - launch.permittedAtMs >= STALLED_AFTER_MS;

const no = (rule: LaunchRefusal, detail: string): LaunchDecision => ({ kind: 'refused', rule, detail });

/**
 * May this miner launch one more instance? First our own count, then the rules of spec/validator-api.md §2.6.1 in their order.
 * The count makes the target exact: every permission not yet gone is a promise, claimed or not (stalled ones excepted).
 */
export function decideLaunch(situation: LaunchSituation): LaunchDecision {
  const { nowMs, minerHotkey, version, targetCount: target, permitted } = situation;
  const live = Object.values(situation.launches).filter((launch) => launch.removal === null);
  const mine = live.filter((launch) => launch.minerHotkey === minerHotkey);
  const active = live.filter((launch) => launch.active).length;
  const promised = live.filter((launch) => launch.version === version && !isStalled(launch, nowMs)).length;

  if (target === 0) return no('stopped', 'chute wants no instances');
  if (mine.filter((launch) => !launch.active).length >= MAX_OUTSTANDING_PER_MINER) {
    return no('miner_cap', `you hold ${MAX_OUTSTANDING_PER_MINER} launches of this chute that are not active yet`);
  }
  if (promised >= target) return no('slots_promised', 'every instance the chute wants is running or promised');
  if (live.length <= target + 2 && active === 0)
    return { kind: 'permitted', permitted: permitted ? { ...permitted } : null };
  if (permitted && live.length >= target - 2) {
    if (Object.keys(permitted).length === 0) return { kind: 'permitted', permitted: {} };
    const quota = permitted[minerHotkey] ?? 0;
    if (quota <= 0) return no('update_quota', 'a rolling update is running and you have no replacement left');
    return { kind: 'permitted', permitted: { ...permitted, [minerHotkey]: quota - 1 } };
  }
  if (live.length >= target) return no('target_reached', 'chute has its target count of instances');
  const headStart = situation.wantingSinceMs === null || nowMs - situation.wantingSinceMs < MONOPOLY_HEAD_START_MS;
  if (target - live.length <= 2 && mine.length === live.length && headStart && situation.rivals !== 0) {
    return no('monopoly', 'the last slots are kept for other miners for a while');
  }
  return { kind: 'permitted', permitted: null };
}
