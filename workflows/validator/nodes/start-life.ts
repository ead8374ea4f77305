import { ParentClosePolicy, startChild, type ChildWorkflowHandle } from '@temporalio/workflow';
import { nodeWorkflowId } from '../../ids.ts';
import type { NodeInput } from './messages.ts';
import { nodeLifecycle } from './node-lifecycle.ts';

/** The `node/<uuid>` of a GPU, which outlives whoever starts it. Throws when it is there already. */
export const startLife = (input: NodeInput): Promise<ChildWorkflowHandle<typeof nodeLifecycle>> =>
  startChild(nodeLifecycle, {
    workflowId: nodeWorkflowId(input.node.uuid),
    parentClosePolicy: ParentClosePolicy.ABANDON,
    memo: { gpu: input.node.gpuType, host: `${input.node.host}:${input.node.port}` },
    args: [input],
  });
