/** Prices of one chute for one caller; integers of a millionth of a dollar (spec/validator-api.md §5.3–5.6). */
const MICRO = 1_000_000;

export interface TokenPrice {
  /** micro-dollars per million tokens, whole cents */
  inputMicroUsd: number;
  outputMicroUsd: number;
}

/** Hourly price × the published ratios, at least a cent per million, less the chute's discount, to whole cents. */
export function tokenPrice(hourlyMicroUsd: number, discount: number): TokenPrice {
  return {
    inputMicroUsd: perMillion(hourlyMicroUsd, 0.01358695, discount),
    outputMicroUsd: perMillion(hourlyMicroUsd, 0.05434782, discount),
  };
}

function perMillion(hourlyMicroUsd: number, ratio: number, discount: number): number {
  const usd = Math.max((hourlyMicroUsd / MICRO) * ratio, 0.01) * (1 - discount);
  return Math.round(usd * 100) * (MICRO / 100);
}

/** Per diffusion step. */
export const stepPriceMicroUsd = (hourlyMicroUsd: number, discount: number): number =>
  Math.round(hourlyMicroUsd * 0.005 * (1 - discount));

export interface PricedCall {
  template: string | null;
  isFree: boolean;
  isPublic: boolean;
  callerIsOwner: boolean;
  discount: number;
  hourlyMicroUsd: number;
  /** the basis price an hour of compute multiplier 1 costs */
  basisMicroUsdPerHour: number;
  computeMultiplier: number;
  durationMs: number;
  tokens: { input: number; output: number } | null;
  steps: number | null;
}

/**
 * What the caller pays, whole micro-dollars, rounded up once at the end: a call that costs something is never free.
 * Refused and failed calls are not priced at all.
 */
export function priceCall(call: PricedCall): number {
  if (call.isFree || (!call.isPublic && call.callerIsOwner)) return 0;
  if (call.template === 'vllm' && call.tokens) {
    const price = tokenPrice(call.hourlyMicroUsd, call.discount);
    return wholeMicroUsd((call.tokens.input * price.inputMicroUsd + call.tokens.output * price.outputMicroUsd) / MICRO);
  }
  if (call.template === 'diffusion' && call.steps !== null) {
    return wholeMicroUsd(call.steps * call.hourlyMicroUsd * 0.005 * (1 - call.discount));
  }
  const units = Math.ceil(call.durationMs / 1000) * call.computeMultiplier;
  return wholeMicroUsd(((units * call.basisMicroUsdPerHour) / 3600) * (1 - call.discount));
}

/** Up to the next whole one; what floating point added behind the sixth digit is not a cost. */
const wholeMicroUsd = (amount: number): number => Math.max(0, Math.ceil(Number(amount.toFixed(6))));
