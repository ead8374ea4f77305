import { Router, type RequestHandler } from 'express';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { MAX_OPENINGS_BYTES, type OpeningsRefs } from '../../../workflows/domain/proof/plugin.ts';
import {
  announceOpenings,
  instanceStatus,
  type InstanceState,
} from '../../../workflows/validator/instances/messages.ts';
import { describeRoute } from '../../http/openapi.ts';
import { rawBody, rawBodyOf } from '../../http/raw-body.ts';
import { parse } from '../../http/validate.ts';
import { launchOf } from '../auth/auth.ts';
import type { ValidatorDeps } from '../deps.ts';
import { instanceOfLaunch, launchNow, LAUNCH_PATH, orEnded } from './launch-handle.ts';
import { openingsPath, openingsResponse } from './wire.ts';

const PATH = `${LAUNCH_PATH}/:configId/povw/openings/:gpuUuid`;
/** A 13 MB body on a line of 1 Mbit/s; the deadline of the launch is usually sooner. */
const UPLOAD_MS = 120_000;

/**
 * Step 4 of the launch (workflows/domain/protocol/launch.ts): the openings of one GPU, binary. A token can store one body of at
 * most MAX_OPENINGS_BYTES for each GPU of its claim: the instance's workflow remembers the hash before the bytes are kept, and a
 * second content is a conflict. What is not awaited is refused before its body is read, and one GPU has one body under way.
 */
export function openingsRoutes({ auth, blobs, db, temporal }: ValidatorDeps): Router {
  const arriving = new Set<string>();

  const awaited: RequestHandler = async (req, res, next) => {
    const { gpuUuid } = parse(openingsPath, req.params, 'path');
    const state = await orEnded(instanceOfLaunch(temporal, await launchNow(db, res)).query(instanceStatus));
    assertAwaited(state, gpuUuid);
    next();
  };
  const oneAtATime: RequestHandler = (req, res, next) => {
    const place = `${launchOf(res).configId}/${String(req.params.gpuUuid)}`;
    if (arriving.has(place)) throw new Refusal('rate.limited', 'the openings of this GPU are being received already');
    arriving.add(place);
    res.once('close', () => arriving.delete(place));
    next();
  };

  return Router().put(
    PATH,
    auth.launchToken,
    awaited,
    oneAtATime,
    rawBody({ limitBytes: MAX_OPENINGS_BYTES, withinMs: UPLOAD_MS }),
    async (req, res) => {
      const { gpuUuid } = parse(openingsPath, req.params, 'path');
      const { bytes, sha256 } = rawBodyOf(res);
      if (!bytes || bytes.length === 0) throw new Refusal('request.invalid', 'the body is empty');
      const launch = await launchNow(db, res);
      await orEnded(
        instanceOfLaunch(temporal, launch).executeUpdate(announceOpenings, { args: [{ gpuUuid, sha256 }] }),
      );
      await blobs.put(openingsKey(launch.config_id, sha256), bytes);
      res.json({ sha256 });
    },
  );
}

const openingsKey = (configId: string, sha256: string): string => `proofs/${configId}/${sha256}`;

/** The same rules as the workflow's, told before a body is read: the workflow decides. */
function assertAwaited({ status, session, openings }: InstanceState, gpuUuid: string): void {
  if (status !== 'walked' && openings?.[gpuUuid] === undefined)
    throw new Refusal('proof.not_awaited', 'no openings are awaited');
  if (!session?.challenges.some(({ binding }) => binding.gpuUuid === gpuUuid))
    throw new Refusal('resource.not_found', `GPU ${gpuUuid} is not part of this launch`);
}

/**
 * Where the openings lie that the final PUT names; null where the session has nothing to open or is not that far (the workflow
 * says which). Refuses hashes whose bytes were not put, with the GPUs that are missing.
 */
export async function storedOpenings(
  { blobs }: Pick<ValidatorDeps, 'blobs'>,
  configId: string,
  { session, openings: announced = {}, status }: InstanceState,
  canopy: { openings?: Record<string, string> | undefined } | undefined,
): Promise<OpeningsRefs | null> {
  if (!session?.samples) return null;
  const given = canopy?.openings ?? {};
  const uuids = session.challenges.map(({ binding }) => binding.gpuUuid);
  const stranger = Object.keys(given).find((uuid) => !uuids.includes(uuid));
  if (stranger !== undefined) throw new Refusal('request.invalid', `GPU ${stranger} is not part of this launch`);
  const refs: OpeningsRefs = {};
  const missing: string[] = [];
  for (const uuid of uuids) {
    const sha256 = given[uuid];
    const key = sha256 === undefined ? '' : openingsKey(configId, sha256);
    // Announced but not stored: the put was cut off between the two. Past `walked` they have been looked at already.
    const isThere =
      sha256 !== undefined &&
      announced[uuid] === sha256 &&
      (status !== 'walked' || (await blobs.sizeBytes(key)) !== null);
    if (isThere) refs[uuid] = { key, sha256 };
    else missing.push(uuid);
  }
  if (missing.length > 0) {
    const where = `${LAUNCH_PATH}/${configId}/povw/openings/`;
    throw new Refusal(
      'request.invalid',
      `the openings of GPU ${missing.join(', ')} are missing: PUT them to ${where}{gpu uuid} and name the sha256 it answers`,
    );
  }
  return refs;
}

describeRoute({
  method: 'put',
  path: PATH,
  summary: 'Openings of one GPU, once the walk is accepted; one content per GPU (docs/proof.md "Binary openings")',
  auth: 'launch',
  body: { contentType: 'application/octet-stream', description: `at most ${MAX_OPENINGS_BYTES} bytes` },
  response: openingsResponse,
});
