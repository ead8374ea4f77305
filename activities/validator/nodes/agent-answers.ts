import { heartbeat } from '@temporalio/activity';
import type { z } from 'zod';
import type { ProvableNode } from '../../../workflows/validator/nodes/messages.ts';
import type { AgentAddress } from './agent-client.ts';

/** The one agent that all of them are behind (`groupsOf`). */
export function agentOf({ nodes, minerHotkey }: { nodes: readonly ProvableNode[]; minerHotkey: string }): AgentAddress {
  const [first] = nodes;
  if (!first || nodes.some(({ host, port }) => !isSameHost(host, first.host) || port !== first.port))
    throw new Error('a proof is of GPUs behind one agent');
  return { host: first.host, port: first.port, minerHotkey };
}

const isSameHost = (one: string, other: string): boolean => one.toLowerCase() === other.toLowerCase();

/** The parsed answer, or null: what an agent says is never trusted to have a shape. */
export function parseAnswer<Schema extends z.ZodType>(schema: Schema, text: string): z.output<Schema> | null {
  try {
    return schema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

/** What an agent says of each of these GPUs; null when one is missing, whatever it says of others. */
export function pick<Value>(
  values: Readonly<Record<string, Value>> | undefined,
  nodes: readonly { uuid: string }[],
): Record<string, Value> | null {
  const own = Object.entries(values ?? {}).filter(([uuid]) => nodes.some((node) => node.uuid === uuid));
  return own.length === nodes.length ? Object.fromEntries(own) : null;
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
