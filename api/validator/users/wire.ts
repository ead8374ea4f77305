import { z } from 'zod';
import type { User } from '../../../activities/validator/users/user-store.ts';
import type { UsageBucket } from '../../../activities/validator/users/usage-store.ts';
import { permissionsOf } from '../../../workflows/domain/auth/users.ts';
import { pageOf, pageQuery } from '../../http/pagination.ts';
import { blankAsNull, wireBoolean, wireMoment, wireUuid } from '../../http/wire-types.ts';

/** Shapes of spec/validator-api.md §2.1. */
export const userResponse = z.object({
  username: z.string(),
  user_id: z.string(),
  logo_id: z.string().nullable(),
  created_at: z.string(),
  logo: z.string().nullable(),
});
export const registrationBody = z.object({ username: z.string(), coldkey: z.string() });
export const registrationQuery = z.object({ token: z.string().optional() });
export const registrationResponse = userResponse.extend({
  hotkey: z.string(),
  coldkey: z.string(),
  payment_address: z.string(),
  fingerprint: z.string(),
});
export const selfResponse = userResponse.extend({
  hotkey: z.string(),
  coldkey: z.string(),
  payment_address: z.string(),
  permissions_bitmask: z.number().int(),
  balance: z.number(),
  permissions: z.array(z.string()),
});
export const nameCheckQuery = z.object({ username: z.string().default('') });
export const nameCheckResponse = z.object({ valid: z.boolean(), available: z.boolean() });
export const usageQuery = z.object({
  ...pageQuery({ limit: 24 }),
  per_chute: wireBoolean().default(false),
  chute_id: blankAsNull().pipe(wireUuid().nullable()),
  start_date: wireMoment().optional(),
  end_date: wireMoment().optional(),
});
export const usageResponse = pageOf(
  z.object({ bucket: z.string(), amount: z.number(), count: z.number().int(), chute_id: z.string().optional() }),
);
export const quotaUsageResponse = z.object({
  quota: z.union([z.number().int(), z.literal('unlimited')]),
  used: z.number(),
});
export const fingerprintBody = z.object({ fingerprint: z.string().min(16).max(256) });
export const statusResponse = z.object({ status: z.string() });

/** Money is micro-dollars inside and a number of dollars on the wire. */
export const usdOf = (microUsd: number): number => microUsd / 1_000_000;

/** The UserResponse inside images and chutes as well. */
export const renderUser = (
  user: Pick<User, 'userId' | 'username' | 'logoId' | 'createdAt'>,
): z.infer<typeof userResponse> => ({
  username: user.username,
  user_id: user.userId,
  logo_id: user.logoId,
  created_at: user.createdAt.toISOString(),
  logo: null, // logos are not served yet (§2.10)
});

export const renderRegistration = (user: User, fingerprint: string): z.infer<typeof registrationResponse> => ({
  ...renderUser(user),
  hotkey: user.hotkey,
  coldkey: user.coldkey,
  payment_address: user.paymentAddress,
  fingerprint,
});

export const renderSelf = (user: User, balanceMicroUsd: number): z.infer<typeof selfResponse> => ({
  ...renderUser(user),
  hotkey: user.hotkey,
  coldkey: user.coldkey,
  payment_address: user.paymentAddress,
  permissions_bitmask: user.permissionsBitmask,
  balance: usdOf(balanceMicroUsd),
  permissions: permissionsOf(user.permissionsBitmask),
});

export const renderBucket = ({ bucket, amountMicroUsd, count, chuteId }: UsageBucket) => ({
  bucket: bucket.toISOString(),
  amount: usdOf(amountMicroUsd),
  count,
  ...(chuteId === null ? {} : { chute_id: chuteId }),
});
