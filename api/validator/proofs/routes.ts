import { pipeline } from 'node:stream/promises';
import { bytesToHex } from '@noble/hashes/utils.js';
import { Router, type Request, type Response } from 'express';
import { proofOfInstance, proofOfNode, type GpuProof } from '../../../activities/validator/proof/proof-record-store.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { PROOF_VERSION, seedOf } from '../../../workflows/domain/proof/povw-hashes.ts';
import { describeRoute } from '../../http/openapi.ts';
import { takeSlots } from '../../http/take-slots.ts';
import { parse } from '../../http/validate.ts';
import type { BlobStore } from '../../../activities/clients/s3.ts';
import type { ValidatorDeps } from '../deps.ts';
import { instancePath, nodePath, proofQuery } from './wire.ts';

/** A proof file is up to 16 MB and anybody may ask: so many at once leave the API its line. */
const SLOTS = { total: 8, perOwner: 2 };
/** 16 MB on a line of 1 Mbit/s. Whoever reads slower, or not at all, makes room for the next. */
const DOWNLOAD_MS = 120_000;

export interface ProofRouteDeps extends Pick<ValidatorDeps, 'db'> {
  blobs: Pick<BlobStore, 'stream' | 'sizeBytes'>;
  downloadMs?: number;
}

/**
 * Recorded proofs, for whoever wants to check one: the proof file for `graval verify`, and with `?format=binding` what its S is
 * made of (docs/proof.md "Proof file"). HEAD gives the file's size.
 */
export function proofRoutes({ blobs, db, downloadMs = DOWNLOAD_MS }: ProofRouteDeps): Router {
  const slots = takeSlots(SLOTS);
  const send = async (req: Request, res: Response, found: Found): Promise<void> => {
    const { proof, format, of } = found;
    const record = proof?.record;
    if (!proof || !record) throw new Refusal('resource.not_found', `there is no recorded proof of ${of}`);
    if (format === 'binding') return void res.json(renderBinding(proof, record));
    const gone = new Refusal('resource.not_found', `the proof file of ${of} is no longer kept`);
    const describeFile = (): Response =>
      res
        .type('application/octet-stream')
        .set('content-length', String(record.sizeBytes))
        .attachment(`${proof.gpuUuid}-${record.sha256.slice(0, 16)}.graval`);
    if (req.method === 'HEAD') {
      if ((await blobs.sizeBytes(record.key)) === null) throw gone;
      return void describeFile().end();
    }
    const release = slots(req.ip ?? '');
    if (!release) throw new Refusal('rate.limited', 'too many proofs are being read, try again');
    const signal = AbortSignal.timeout(downloadMs);
    try {
      const file = await blobs.stream(record.key, signal);
      if (!file) throw gone;
      describeFile();
      // One side left or the time is over: both streams end, and there is nobody to tell.
      await pipeline(file, res, { signal }).catch(() => res.destroy());
    } finally {
      release();
    }
  };

  return Router()
    .get('/nodes/:uuid/proof', async (req, res) => {
      const { uuid } = parse(nodePath, req.params, 'path');
      const { format } = parse(proofQuery, req.query, 'query');
      await send(req, res, { proof: await proofOfNode(db, uuid), format, of: `GPU ${uuid}` });
    })
    .get('/instances/:instanceId/proofs/:gpuUuid', async (req, res) => {
      const { instanceId, gpuUuid } = parse(instancePath, req.params, 'path');
      const { format } = parse(proofQuery, req.query, 'query');
      const proof = await proofOfInstance(db, instanceId, gpuUuid);
      await send(req, res, { proof, format, of: `GPU ${gpuUuid} for instance ${instanceId}` });
    });
}

interface Found {
  proof: GpuProof | null;
  format: 'file' | 'binding';
  of: string;
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
