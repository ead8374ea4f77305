const MAX_LENGTH = 58;

/** Host label of a new chute (spec/validator-api.md §6.2): ASCII-fold, anything else to single dashes, at most 58 characters. */
export function slugOf(username: string, chuteName: string): string {
  const folded = `${username}-${chuteName}`
    .normalize('NFKD')
    .replace(/[^\x20-\x7e]/g, '')
    .toLowerCase();
  const dashed = folded.replace(/[^a-z0-9]+/g, '-').replace(/^-+/, '');
  return dashed.slice(0, MAX_LENGTH).replace(/-+$/, '');
}

/** On a collision: `-` and five characters of [a-z0-9], which the caller draws. Cut so that the whole is a DNS label (63). */
export const slugWithSuffix = (slug: string, suffix: string): string => `${slug.slice(0, 57)}-${suffix}`;
