/** What an instance's status means for the request: relayed, or tried elsewhere, and whether the instance is blamed. */
export type Verdict =
  | { kind: 'relay'; error: null | 'BAD_REQUEST' }
  | { kind: 'next'; error: 'RATE_LIMIT'; blamed: false }
  | { kind: 'next'; error: string; blamed: true };

/**
 * Spec/validator-api.md §3.6. A 4xx is the caller's own fault and goes back as it came, except those that speak of the
 * instance itself: 401 (our secret refused), 404 (its program lacks the cord), 408 and 426.
 */
export function judgeAnswer(status: number): Verdict {
  if (status === 429) return { kind: 'next', error: 'RATE_LIMIT', blamed: false };
  if (status >= 500 || status < 200 || [401, 404, 408, 426].includes(status)) {
    return {
      kind: 'next',
      error: status === 426 ? 'KEY_EXCHANGE_REQUIRED' : `instance answered ${status}`,
      blamed: true,
    };
  }
  return { kind: 'relay', error: status >= 400 ? 'BAD_REQUEST' : null };
}
