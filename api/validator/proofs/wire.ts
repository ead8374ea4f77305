import { z } from 'zod';
import { wireUuid } from '../../http/wire-types.ts';

const gpuUuid = () => z.string().regex(/^[0-9a-f]{32}$/, { error: 'must be 32 lower-case hex characters' });

export const nodePath = z.object({ uuid: gpuUuid() });
export const instancePath = z.object({ instanceId: wireUuid(), gpuUuid: gpuUuid() });
export const proofQuery = z.object({ format: z.enum(['file', 'binding']).default('file') });
