/** A bucket as it stood at `atMs`; refilled by arithmetic, never by a timer. */
export interface Bucket {
  tokens: number;
  atMs: number;
}
export interface BucketRule {
  perMinute: number;
  burst: number;
}

export interface Taken {
  bucket: Bucket;
  allowed: boolean;
  /** whole requests that could still be made at once */
  remaining: number;
  /** until the next token when refused, until full otherwise; milliseconds */
  waitMs: number;
}

/** Takes one token, or says how long until there is one. A clock that went back refills nothing. */
export function takeToken(bucket: Bucket | null, rule: BucketRule, nowMs: number): Taken {
  const perMs = rule.perMinute / 60_000;
  const before = bucket ?? { tokens: rule.burst, atMs: nowMs };
  const tokens = Math.min(rule.burst, before.tokens + Math.max(0, nowMs - before.atMs) * perMs);
  if (tokens < 1)
    return { bucket: { tokens, atMs: nowMs }, allowed: false, remaining: 0, waitMs: Math.ceil((1 - tokens) / perMs) };
  const left = tokens - 1;
  return {
    bucket: { tokens: left, atMs: nowMs },
    allowed: true,
    remaining: Math.floor(left),
    waitMs: Math.ceil((rule.burst - left) / perMs),
  };
}
