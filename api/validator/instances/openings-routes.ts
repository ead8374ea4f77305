import { Router, type Request, type Response } from 'express';
import { Refusal } from '../../../workflows/domain/errors.ts';
import type { PovwChallenge } from '../../../workflows/domain/proof/messages.ts';
import { MAX_OPENINGS_BYTES, openingsKey, type OpeningsRefs } from '../../../workflows/domain/proof/plugin.ts';
import { openingsBytesAtMost } from '../../../workflows/domain/proof/profile-rows.ts';
import {
  announceOpenings,
  instanceStatus,
  type InstanceState,
} from '../../../workflows/validator/instances/messages.ts';
import { describeRoute } from '../../http/openapi.ts';
import { rawBody, rawBodyOf, type RawBody } from '../../http/raw-body.ts';
import { takeSlots } from '../../http/take-slots.ts';
import { parse } from '../../http/validate.ts';
import type { ValidatorDeps } from '../deps.ts';
import { instanceOfLaunch, launchNow, LAUNCH_PATH, orEnded } from './launch-handle.ts';
import { openingsPath, openingsResponse } from './wire.ts';

const PATH = `${LAUNCH_PATH}/:configId/povw/openings/:gpuUuid`;
/** A 13 MB body on a line of 1 Mbit/s; the deadline of the launch is usually sooner. */
const UPLOAD_MS = 120_000;

/** Each is up to 16 MB of this process' memory. One miner's launches never fill all places: its rivals' clocks run too. */
const PLACES = { total: 8, perOwner: 4 };

/**
 * Step 4 of the launch (workflows/domain/protocol/launch.ts): the openings of one GPU, binary. A token can store one body for each
 * GPU of its claim, no longer than the GPU's profile can have: the instance's workflow remembers the hash before the bytes are
 * kept, and a second content is a conflict. What is not awaited is refused before its body is read, and one GPU has one body
 * under way. What is known and stored is answered without asking the workflow again.
 */
export function openingsRoutes({ auth, blobs, db, temporal }: ValidatorDeps): Router {
  const takePlace = takeSlots(PLACES);
  const arriving = new Set<string>();

  return Router().put(PATH, auth.launchToken, async (req, res) => {
    const { gpuUuid } = parse(openingsPath, req.params, 'path');
    const launch = await launchNow(db, res);
    const instance = instanceOfLaunch(temporal, launch);
    const state = await orEnded(instance.query(instanceStatus));
    const limitBytes = openingsBytesAtMost(awaitedOf(state, gpuUuid).profile);
    const gpu = `${launch.config_id}/${gpuUuid}`;
    if (arriving.has(gpu)) throw new Refusal('rate.limited', 'the openings of this GPU are being received already');
    const leavePlace = takePlace(launch.miner_hotkey);
    if (!leavePlace) throw new Refusal('rate.limited', 'many openings are being received, try again');
    arriving.add(gpu);
    try {
      const { bytes, sha256 } = await bodyOf(req, res, limitBytes);
      if (!bytes || bytes.length === 0) throw new Refusal('request.invalid', 'the body is empty');
      const key = openingsKey(launch.config_id, sha256);
      if (!(await isKept(state, gpuUuid, sha256, () => blobs.sizeBytes(key)))) {
        await orEnded(instance.executeUpdate(announceOpenings, { args: [{ gpuUuid, sha256 }] }));
        await blobs.put(key, bytes);
      }
      res.json({ sha256 });
    } finally {
      arriving.delete(gpu);
      leavePlace();
    }
  });
}

/** Whoever holds the bytes waits for them here: the place is free when they are stored, not when the client leaves. */
const bodyOf = (req: Request, res: Response, limitBytes: number): Promise<RawBody> =>
  new Promise((resolve, reject) => {
    const next = (err?: unknown): void => (err === undefined ? resolve(rawBodyOf(res)) : reject(err));
    void rawBody({ limitBytes, withinMs: UPLOAD_MS })(req, res, next);
  });

/** The same rules as the workflow's, told before a body is read: the workflow decides. */
function awaitedOf({ status, session, openings }: InstanceState, gpuUuid: string): PovwChallenge {
  if (status !== 'walked' && openings?.[gpuUuid] === undefined)
    throw new Refusal('proof.not_awaited', 'no openings are awaited');
  const challenge = session?.challenges.find(({ binding }) => binding.gpuUuid === gpuUuid);
  if (!challenge) throw new Refusal('resource.not_found', `GPU ${gpuUuid} is not part of this launch`);
  return challenge;
}

/** Past `walked` they have been looked at, and may be dropped: they are not stored again. */
async function isKept(
  { status, openings }: InstanceState,
  gpuUuid: string,
  sha256: string,
  sizeBytes: () => Promise<number | null>,
): Promise<boolean> {
  const known = openings?.[gpuUuid];
  if (known === undefined) return false;
  if (known !== sha256) {
    if (status !== 'walked') throw new Refusal('proof.not_awaited', 'no openings are awaited');
    throw new Refusal('resource.conflict', `other openings of GPU ${gpuUuid} were sent before`);
  }
  return status !== 'walked' || (await sizeBytes()) !== null;
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
    // Announced but not stored: the put was cut off between the two. Past `walked` they have been looked at, and may be dropped.
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
  body: {
    contentType: 'application/octet-stream',
    description: `what a proof of the GPU's profile can have, at most ${MAX_OPENINGS_BYTES} bytes`,
  },
  response: openingsResponse,
});
