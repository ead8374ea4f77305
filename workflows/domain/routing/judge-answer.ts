/** What an instance's status means for the request: relayed, or tried elsewhere, and whether the instance is blamed. */
export type Verdict =
  | { kind: 'relay'; error: null | 'BAD_REQUEST' }
  | { kind: 'next'; error: 'RATE_LIMIT'; blamed: false }
  | { kind: 'next'; error: string; blamed: true };

/**
 * Spec/validator-api.md §3.6 for transport `canopy/1`, where the runtime marks what it says itself. Its 429 speaks of room,
 * any other refusal of the instance (401: our secret; 502, 503: no chute to ask). A 4xx of the chute is its answer to this
 * caller, 401, 404 and 429 included: the cord was resolved before, so another instance would say the same.
 */
export function judgeAnswer(status: number, isRefusal: boolean): Verdict {
  if (isRefusal && status === 429) return { kind: 'next', error: 'RATE_LIMIT', blamed: false };
  if (isRefusal || status >= 500 || status < 200)
    return { kind: 'next', error: `instance answered ${status}`, blamed: true };
  return { kind: 'relay', error: status >= 400 ? 'BAD_REQUEST' : null };
}
