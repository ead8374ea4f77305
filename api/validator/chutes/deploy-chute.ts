import { createHash } from 'node:crypto';
import { WithStartWorkflowOperation } from '@temporalio/client';
import { checkDeploy } from '../../../workflows/domain/chutes/check-deploy.ts';
import type { ChuteDefinition } from '../../../workflows/domain/chutes/chute-definition.ts';
import { slugOf } from '../../../workflows/domain/chutes/slug-of.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { chuteIdOf, chuteVersionOf } from '../../../workflows/domain/ids.ts';
import { chuteWorkflowId } from '../../../workflows/ids.ts';
import { SEARCH_ATTRIBUTES } from '../../../workflows/search-attributes.ts';
import { TASK_QUEUES } from '../../../workflows/task-queues.ts';
import { deployChute, type ChuteInput } from '../../../workflows/validator/chutes/messages.ts';
import type { chuteDeployment } from '../../../workflows/validator/chutes/chute-deployment.ts';
import type { Caller } from '../auth/auth.ts';
import type { ValidatorDeps } from '../deps.ts';
import { findImage, readDeployFacts } from './chute-queries.ts';
import type { ChuteArgs } from './wire.ts';

/** Starts `chute/<id>` when it does not run; it then works from its rows. One operation serves one call. */
export const startChute = (chuteId: string, taskQueue: string = TASK_QUEUES.validator) =>
  new WithStartWorkflowOperation<typeof chuteDeployment>('chuteDeployment', {
    workflowId: chuteWorkflowId(chuteId),
    taskQueue,
    args: [{ chuteId } satisfies ChuteInput],
    workflowIdConflictPolicy: 'USE_EXISTING',
    typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.chute, value: chuteId }],
  });

/** Checks a deployment, stores its definition by content, and has the chute's workflow write it. Returns the chute's id. */
export async function deployFromArgs(
  { config, db, blobs, temporal }: Pick<ValidatorDeps, 'config' | 'db' | 'blobs' | 'temporal'>,
  caller: Caller,
  args: ChuteArgs,
  acceptFee: boolean,
): Promise<string> {
  const receivedAtMs = Date.now();
  const image = await findImage(db, args.image, caller.userId);
  const { operationsLastDay, balanceMicroUsd, deployed } = await readDeployFacts(db, caller.userId, args.name);
  const version = image ? chuteVersionOf(image.image_id, image.patch_version, args.code) : '';
  const verdict = checkDeploy({
    mode: config.CANOPY_MODE,
    username: caller.username,
    permissionsBitmask: caller.permissionsBitmask,
    operationsLastDay,
    balanceMicroUsd,
    acceptFee,
    public: args.public,
    version,
    nodeSelector: args.node_selector,
    standardTemplate: args.standard_template,
    revision: args.revision,
    image: image && { status: image.status, public: image.public, chutesVersion: image.chutes_version },
    deployed,
    cordCount: args.cords.length,
    jobCount: args.jobs.length,
    code: args.code,
  });
  if (verdict.kind === 'refused') throw new Refusal(verdict.code, verdict.detail);
  if (!image) throw new Error('a deployment without an image passed its checks');

  // A differently-cased name is the same chute: id, name and slug are given once (§2.4.5).
  const name = deployed?.name ?? args.name;
  const chuteId = deployed?.chute_id ?? chuteIdOf(caller.username, name);
  const scales = !args.public && caller.username !== 'chutes';
  const definition: ChuteDefinition = {
    chuteId,
    userId: caller.userId,
    imageId: image.image_id,
    name,
    slug: slugOf(caller.username, name),
    version,
    public: args.public,
    code: args.code,
    filename: args.filename,
    refStr: args.ref_str,
    standardTemplate: args.standard_template,
    tagline: args.tagline,
    readme: args.readme,
    toolDescription: args.tool_description,
    logoId: args.logo_id,
    nodeSelector: args.node_selector,
    cords: args.cords,
    concurrency: args.concurrency,
    revision: args.revision,
    maxInstances: scales ? args.max_instances : null,
    scalingThreshold: scales ? args.scaling_threshold : null,
    shutdownAfterSeconds: scales ? args.shutdown_after_seconds : null,
    allowExternalEgress: args.allow_external_egress,
    minimumTrustLevel: args.tee ? 'attested' : (args.canopy?.minimum_trust_level ?? 'none'),
    chutesVersion: image.chutes_version,
    feeMicroUsd: verdict.feeMicroUsd,
  };
  const bytes = JSON.stringify(definition);
  const blob = await blobs.putByContent('chutes/definitions', bytes, 'application/json');
  await temporal.workflow.executeUpdateWithStart(deployChute, {
    startWorkflowOperation: startChute(chuteId),
    args: [
      {
        definitionKey: blob.key,
        definitionSha256: createHash('sha256').update(bytes).digest('hex'),
        userId: caller.userId,
        chuteId,
        version,
        public: args.public,
        receivedAtMs,
      },
    ],
  });
  return chuteId;
}
