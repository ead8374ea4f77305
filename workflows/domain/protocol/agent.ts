/**
 * The agent's HTTP service on a GPU server, as validator and miner speak to it. The first three routes are the
 * reference bootstrap's (spec/miner.md §6.5); the `povw` routes are ours. Plain HTTP, signed per spec/miner.md §2.1:
 * `miner:validator:nonce:(body hash | purpose)`, freshness 30 s.
 *
 *   GET  /ping                         none                 `pong`
 *   GET  /devices                      miner, graval        { devices: DeviceInfo[] }
 *   GET  /info?challenge=<64 hex>      validator, graval    text, `deviceInfoAnswer` of the device the first byte picks
 *   POST /povw/commit                  validator            { session, challenges: PovwChallenge[] } → PovwCommit
 *   POST /povw/walk                    validator            { session, nonce2 }                      → PovwWalk
 *   POST /povw/open                    validator            { session, gpu_uuid, samples }           → that GPU's openings, binary
 *   DELETE /povw/{session}             validator, graval    frees the GPUs' memory
 *
 * A step asked again with the same question has the same answer; with another it is a 409. A prover that fails is a 503, ends its
 * session and frees the GPUs; a profile this server cannot prove (no GPU that `graval` can use) is a 400 that says what is missing.
 * All GPUs of one session fill and walk simultaneously, so none can lend its memory to another.
 */
import type { FillSampleIndex, PovwChallenge, WalkSampleIndex } from '../proof/messages.ts';
import type { PovwCommit, PovwWalk } from './launch.ts';

export interface AgentCommitRequest {
  session: string;
  challenges: PovwChallenge[];
}
export type AgentCommitAnswer = PovwCommit;
export interface AgentWalkRequest {
  session: string;
  nonce2: string;
}
export type AgentWalkAnswer = PovwWalk;
export interface AgentOpenRequest {
  session: string;
  gpu_uuid: string;
  samples: { fill: FillSampleIndex[]; walk: WalkSampleIndex[] };
}
