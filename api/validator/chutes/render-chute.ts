import { withoutSchemas, cordRefId } from '../../../workflows/domain/chutes/cord-ref-id.ts';
import { nodeSelectorOf, type Cord } from '../../../workflows/domain/chutes/chute-definition.ts';
import { estimatedPrice } from '../../../workflows/domain/chutes/estimated-price.ts';
import { computeMultiplier, supportedGpus } from '../../../workflows/domain/gpus/node-selector.ts';
import type { ChuteRow, OwnerRow } from './chute-queries.ts';

const iso = (moment: string | Date): string => new Date(moment).toISOString();
const isoOrNull = (moment: string | Date | null): string | null => (moment === null ? null : iso(moment));

/** UserResponse (spec/validator-api.md §2.1). */
const renderOwner = (owner: OwnerRow) => ({
  username: owner.username,
  user_id: owner.user_id,
  logo_id: owner.logo_id,
  created_at: iso(owner.created_at),
  logo: null,
});

/** ImageResponse (spec/validator-api.md §2.3). */
const renderImage = ({ image, image_id }: ChuteRow) => ({
  image_id,
  name: image.name,
  readme: image.readme,
  tag: image.tag,
  public: image.public,
  status: image.status,
  created_at: iso(image.created_at),
  build_started_at: isoOrNull(image.build_started_at),
  build_completed_at: isoOrNull(image.build_completed_at),
  user: renderOwner(image.owner),
  logo_id: image.logo_id,
  patch_version: image.patch_version,
  logo: null,
});

/** The stored selector and what follows from it. */
export function renderSelector(row: Pick<ChuteRow, 'node_selector'>) {
  const selector = nodeSelectorOf(row.node_selector);
  return {
    ...row.node_selector,
    compute_multiplier: computeMultiplier(selector),
    supported_gpus: supportedGpus(selector).map((type) => type.ref),
  };
}

export const cordRefIdOf = (row: Pick<ChuteRow, 'cords' | 'standard_template' | 'name'>): string =>
  cordRefId(row.cords, row.standard_template, row.name);

/** ChuteResponse (spec/validator-api.md §2.4.2): everything but the code. */
export function renderChute(row: ChuteRow) {
  const node_selector = renderSelector(row);
  return {
    chute_id: row.chute_id,
    name: row.name,
    tagline: row.tagline,
    readme: row.readme,
    public: row.public,
    version: row.version,
    tool_description: row.tool_description,
    slug: row.slug,
    standard_template: row.standard_template,
    cords: row.cords as Cord[] | null,
    jobs: row.jobs,
    cord_ref_id: cordRefIdOf(row),
    created_at: iso(row.created_at),
    updated_at: iso(row.updated_at),
    image: renderImage(row),
    user: renderOwner(row.owner),
    supported_gpus: node_selector.supported_gpus,
    node_selector,
    invocation_count: row.invocation_count,
    current_estimated_price: estimatedPrice({
      nodeSelector: row.node_selector,
      standardTemplate: row.standard_template,
      discount: Number(row.discount),
    }),
    instances: row.instances.map(({ instance_id, region, active, verified, last_verified_at }) => ({
      instance_id,
      region,
      active,
      verified,
      last_verified_at: isoOrNull(last_verified_at),
    })),
    logo_id: row.logo_id,
    openrouter: false,
    chutes_version: row.chutes_version,
    revision: row.revision,
    concurrency: row.concurrency,
    boost: null,
    max_instances: row.max_instances,
    scaling_threshold: row.scaling_threshold,
    shutdown_after_seconds: row.shutdown_after_seconds,
    preemptible: row.public,
    logo: null,
    hot: row.instances.some((instance) => instance.active && instance.verified),
  };
}

/** A page of chutes whose cords are told once each, by reference (spec/validator-api.md §2.4.4). */
export function renderPage(
  rows: readonly ChuteRow[],
  page: { total: number; page: number; limit: number },
  includeSchemas: boolean,
) {
  const cord_refs: Record<string, unknown> = {};
  const items = rows.map((row) => {
    const chute = renderChute(row);
    cord_refs[chute.cord_ref_id] ??= includeSchemas ? row.cords : withoutSchemas(row.cords);
    return { ...chute, cords: null };
  });
  return { ...page, items, cord_refs };
}
