import { heartbeat } from '@temporalio/activity';
import type { z } from 'zod';
import type { ProvableNode } from '../../../workflows/validator/nodes/messages.ts';
import type { AgentAnswer } from './agent-client.ts';

/** The agents behind a batch of nodes: one for each host and port. */
export function hostsOf(nodes: readonly ProvableNode[]): { host: string; port: number; uuids: string[] }[] {
  const byAddress = new Map<string, { host: string; port: number; uuids: string[] }>();
  for (const { host, port, uuid } of nodes) {
    const agent = byAddress.get(`${host} ${port}`) ?? { host, port, uuids: [] };
    agent.uuids.push(uuid);
    byAddress.set(`${host} ${port}`, agent);
  }
  return [...byAddress.values()];
}

/** The parsed answer, or null: what an agent says is never trusted to have a shape. */
export function parseAnswer<Schema extends z.ZodType>(schema: Schema, text: string): z.output<Schema> | null {
  try {
    return schema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

/** An agent speaks for its own GPUs only, and for each of them. */
export function pick<Value>(
  values: Readonly<Record<string, Value>> | undefined,
  uuids: readonly string[],
): Record<string, Value> | null {
  const own = Object.entries(values ?? {}).filter(([uuid]) => uuids.includes(uuid));
  return own.length === uuids.length ? Object.fromEntries(own) : null;
}

export function merged<Value>(answer: AgentAnswer<Record<string, Value>[]>): AgentAnswer<Record<string, Value>> {
  return answer.kind === 'answered'
    ? { ...answer, value: Object.assign({}, ...answer.value) as Record<string, Value> }
    : answer;
}

/** Heartbeats every few seconds, with what a new attempt goes on from, while `work` waits for the network. */
export async function beating<Result>(work: () => Promise<Result>, details?: unknown): Promise<Result> {
  const timer = setInterval(() => heartbeat(details), 5000);
  try {
    return await work();
  } finally {
    clearInterval(timer);
  }
}
