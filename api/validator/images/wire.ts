import { z } from 'zod';
import { imageNameProblem, imageTagProblem } from '../../../workflows/domain/images/image-reference.ts';
import { pageQuery } from '../../http/pagination.ts';
import { wireBoolean } from '../../http/wire-types.ts';
import { userResponse } from '../users/wire.ts';
import type { ImageRow, OwnedImageRow } from '../../../activities/validator/images/image-store.ts';

const checked = (problem: (text: string) => string | null) =>
  z.string().superRefine((text, context) => {
    const message = problem(text);
    if (message) context.addIssue({ code: 'custom', message });
  });

/** Text fields of `POST /images/`; `image` (a pickle) is never read, what is not named here is ignored. */
export const imageForm = z.object({
  wait: wireBoolean(),
  username: z.string(),
  name: checked(imageNameProblem),
  tag: checked(imageTagProblem),
  readme: z.string(),
  logo_id: z.union([z.literal('__none__'), z.uuid()]).transform((id) => (id === '__none__' ? null : id)),
  dockerfile: z.string().min(1),
  public: wireBoolean(),
});

export const listQuery = z.object({
  ...pageQuery(),
  include_public: wireBoolean().default(false),
  name: z.string().max(200).optional(),
  tag: z.string().max(200).optional(),
});

/** The raw row of the 202, without where the validator keeps the bytes. */
export const renderRow = (row: ImageRow) => ({
  image_id: row.image_id,
  user_id: row.user_id,
  name: row.name,
  tag: row.tag,
  readme: row.readme,
  logo_id: row.logo_id,
  public: row.public,
  status: row.status,
  patch_version: row.patch_version,
  chutes_version: row.chutes_version,
  created_at: row.created_at,
  build_started_at: row.build_started_at,
  build_completed_at: row.build_completed_at,
});

const logoUrl = (publicUrl: string, logoId: string | null): string | null =>
  logoId ? `${publicUrl}/logos/${logoId}.webp` : null;

/** ImageResponse (§2.3) with its UserResponse (§2.1). */
export const renderImage = (row: OwnedImageRow, publicUrl: string) => ({
  image_id: row.image_id,
  name: row.name,
  readme: row.readme,
  tag: row.tag,
  public: row.public,
  status: row.status,
  created_at: row.created_at,
  build_started_at: row.build_started_at,
  build_completed_at: row.build_completed_at,
  user: {
    username: row.username,
    user_id: row.user_id,
    logo_id: row.user_logo_id,
    created_at: row.user_created_at,
    logo: logoUrl(publicUrl, row.user_logo_id),
  },
  logo_id: row.logo_id,
  patch_version: row.patch_version,
  logo: logoUrl(publicUrl, row.logo_id),
});

const moment = z.string();
export const imageRow = z.object({
  image_id: z.string(),
  user_id: z.string(),
  name: z.string(),
  tag: z.string(),
  readme: z.string(),
  logo_id: z.string().nullable(),
  public: z.boolean(),
  status: z.string(),
  patch_version: z.string(),
  chutes_version: z.string(),
  created_at: moment,
  build_started_at: moment.nullable(),
  build_completed_at: moment.nullable(),
});
export const imageResponse = z.object({
  image_id: z.string(),
  name: z.string(),
  readme: z.string(),
  tag: z.string(),
  public: z.boolean(),
  status: z.string(),
  created_at: moment,
  build_started_at: moment.nullable(),
  build_completed_at: moment.nullable(),
  user: userResponse,
  logo_id: z.string().nullable(),
  patch_version: z.string(),
  logo: z.string().nullable(),
});
export const deletedResponse = z.object({ image_id: z.string(), deleted: z.literal(true) });
