import { randomBytes } from 'node:crypto';
import { soldVramBytes } from '../../../workflows/domain/gpus/gpu-table.ts';
import type { ProvableNode } from '../../../workflows/validator/nodes/messages.ts';
import type { NodeRow } from './node-store.ts';

/** As the wire and the rows have it; workflows are named by the second half. */
export const fullTaskId = (minerHotkey: string, taskId: string): string => `${minerHotkey}::${taskId}`;

/** The second half, by which the workflow of the registration is named; empty when there is none. */
export const taskIdOf = (fullTaskId: string): string => fullTaskId.split('::')[1] ?? '';

/** A registered GPU as its proofs need to know it. */
export const provableNodeOf = (row: NodeRow): ProvableNode => ({
  uuid: row.uuid,
  gpuType: row.gpu_identifier.toLowerCase(),
  vramBytes: soldVramBytes(row.gpu_identifier),
  name: row.name,
  memory: row.memory,
  clockRate: row.clock_rate,
  deviceIndex: row.device_index,
  host: row.verification_host,
  port: row.verification_port,
});

/** 1 … 2^63 − 1 as decimal text. */
export function randomSeed(): string {
  const seed = randomBytes(8).readBigUInt64BE() >> 1n;
  return String(seed === 0n ? 1n : seed);
}
