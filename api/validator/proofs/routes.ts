import { pipeline } from 'node:stream/promises';
import { bytesToHex } from '@noble/hashes/utils.js';
import { Router, type Response } from 'express';
import { proofOfInstance, proofOfNode, type GpuProof } from '../../../activities/validator/proof/proof-record-store.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { PROOF_VERSION, seedOf } from '../../../workflows/domain/proof/povw-hashes.ts';
import { describeRoute } from '../../http/openapi.ts';
import { parse } from '../../http/validate.ts';
import type { ValidatorDeps } from '../deps.ts';
import { instancePath, nodePath, proofQuery } from './wire.ts';

/** A proof file is up to 16 MB and anybody may ask: so many at once leave the API its line. */
const MAX_DOWNLOADS = 8;

/**
 * Recorded proofs, for whoever wants to check one: the proof file for `graval verify`, and with `?format=binding` what its S is
 * made of (docs/proof.md "Proof file").
 */
export function proofRoutes({ blobs, db }: Pick<ValidatorDeps, 'blobs' | 'db'>): Router {
  let downloads = 0;
  const send = async (res: Response, proof: GpuProof | null, format: 'file' | 'binding', of: string): Promise<void> => {
    const record = proof?.record;
    if (!proof || !record) throw new Refusal('resource.not_found', `there is no recorded proof of ${of}`);
    if (format === 'binding') return void res.json(renderBinding(proof, record));
    if (downloads >= MAX_DOWNLOADS) throw new Refusal('rate.limited', 'too many proofs are being read, try again');
    downloads += 1;
    try {
      const file = await blobs.stream(record.key);
      if (!file) throw new Refusal('resource.not_found', `the proof file of ${of} is no longer kept`);
      res
        .type('application/octet-stream')
        .set('content-length', String(record.sizeBytes))
        .attachment(`${proof.gpuUuid}-${record.sha256.slice(0, 16)}.graval`);
      await pipeline(file, res).catch(() => res.destroy()); // one side left: there is nobody to tell
    } finally {
      downloads -= 1;
    }
  };

  return Router()
    .get('/nodes/:uuid/proof', async (req, res) => {
      const { uuid } = parse(nodePath, req.params, 'path');
      const { format } = parse(proofQuery, req.query, 'query');
      await send(res, await proofOfNode(db, uuid), format, `GPU ${uuid}`);
    })
    .get('/instances/:instanceId/proofs/:gpuUuid', async (req, res) => {
      const { instanceId, gpuUuid } = parse(instancePath, req.params, 'path');
      const { format } = parse(proofQuery, req.query, 'query');
      const proof = await proofOfInstance(db, instanceId, gpuUuid);
      await send(res, proof, format, `GPU ${gpuUuid} for instance ${instanceId}`);
    });
}

const renderBinding = (
  { gpuUuid, verified, reason, samplesChecked, bytesFilled }: GpuProof,
  { binding, sha256, sizeBytes }: NonNullable<GpuProof['record']>,
) => ({
  version: PROOF_VERSION,
  gpu_uuid: gpuUuid,
  verified,
  reason,
  samples_checked: samplesChecked,
  bytes_filled: bytesFilled,
  binding,
  seed: bytesToHex(seedOf(binding)),
  file: { sha256, size_bytes: sizeBytes },
});

for (const [path, of] of [
  ['/nodes/:uuid/proof', 'a GPU of the inventory: its last proof'],
  ['/instances/:instanceId/proofs/:gpuUuid', 'a GPU of an instance: what it was let in with, or turned away for'],
] as const) {
  describeRoute({
    method: 'get',
    path,
    summary: `Recorded proof of ${of}; format=binding: what S is made of, JSON`,
    auth: 'none',
    query: proofQuery,
    response: { contentType: 'application/octet-stream', description: 'proof file, for `graval verify`' },
  });
}
