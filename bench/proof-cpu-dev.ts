/** Milliseconds of one simulated GPU's proof, per step: median and worst of `ROUNDS` runs. `node bench/proof-cpu-dev.ts` */
import { drawSamples } from '../workflows/domain/proof/draw-samples.ts';
import { PROFILES } from '../workflows/domain/proof/profiles.ts';
import { vectorChallenge } from '../workflows/domain/proof/proof-vectors.ts';
import { createProver } from '../workflows/domain/proof/prover.ts';
import { verifyOpenings } from '../workflows/domain/proof/verify-openings.ts';

const ROUNDS = 15;
const times: Record<string, number[]> = {};
const timed = <T>(step: string, work: () => T): T => {
  const startedAt = performance.now();
  const result = work();
  (times[step] ??= []).push(performance.now() - startedAt);
  return result;
};

let openingBytes = 0;
for (let round = 0; round < ROUNDS; round++) {
  const challenge = vectorChallenge(PROFILES['cpu-dev']);
  const nonce2 = round.toString(16).padStart(64, '0');
  const prover = createProver(challenge);
  const { root } = timed('commit', () => prover.commit());
  const walk = timed('walk', () => prover.walk(nonce2));
  const samples = drawSamples(challenge.profile, new Uint8Array(32).fill(round));
  const openings = timed('open', () => prover.open(samples));
  openingBytes = JSON.stringify(openings).length;
  const verdict = timed('verify', () => verifyOpenings({ challenge, root, nonce2, walk, samples, openings }));
  if (!verdict.verified) throw new Error(`an honest proof was refused: ${verdict.reason}`);
}
const firstMs = Object.values(times).reduce((sum, [first = 0]) => sum + first, 0);
for (const [step, list] of Object.entries(times)) {
  const sorted = [...list].sort((a, b) => a - b);
  console.log(
    `${step.padEnd(8)} median ${(sorted[ROUNDS >> 1] ?? 0).toFixed(1).padStart(7)} ms   worst ${(sorted.at(-1) ?? 0).toFixed(1).padStart(7)} ms`,
  );
}
console.log(`cold run, all steps ${firstMs.toFixed(1)} ms; openings ${openingBytes} bytes of JSON`);
