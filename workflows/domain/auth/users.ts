/** Role bits of a user (spec/validator-api.md §1.6): value, name, and the sentence clients show. */
export const ROLES = {
  developer: { value: 1, description: 'Create images and chutes.' },
  create_user: { value: 2, description: 'Create users.' },
  update_user: { value: 4, description: 'Update users.' },
  delete_user: { value: 8, description: 'Delete users.' },
  free_account: { value: 16, description: 'Free account.' },
  unlimited: { value: 32, description: 'Unlimited requests.' },
  billing_admin: { value: 64, description: 'Manage billing.' },
  unlimited_dev: { value: 128, description: 'Unlimited development.' },
  invoice_billing: { value: 256, description: 'Billed by invoice.' },
  stake_weight_quota: { value: 512, description: 'Quota by stake.' },
  affine_admin: { value: 1024, description: 'Manage affine chutes.' },
  // The SDK compares this sentence (§1.6 bit 11).
  public_model_deployment: { value: 2048, description: 'Allow deploying models publicly.' },
} as const satisfies Record<string, { value: number; description: string }>;

export type Role = keyof typeof ROLES;

export const hasRole = (bitmask: number, role: Role): boolean => (bitmask & ROLES[role].value) !== 0;

/** Sentences of the set bits, lowest bit first. */
export const permissionsOf = (bitmask: number): string[] =>
  Object.values(ROLES)
    .filter((role) => (bitmask & role.value) !== 0)
    .map((role) => role.description);

export const isUsername = (name: string): boolean => /^[a-zA-Z0-9_-]{3,15}$/.test(name);
