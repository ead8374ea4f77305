import { isUuid } from '../ids.ts';

/** How a caller names an image: its id, or `[user/]name:tag` where the name may hold `/`. */
export type ImageReference = { kind: 'id'; imageId: string } | { kind: 'name'; path: string; tag: string };

// The reference allows more (any case, `..`, a `/` in tags); a registry holds none of that, and SDK generations disagree
// about the id of a name with capitals (spec/validator-api.md §6.1), so creation asks for what all of them agree on.
const NAME = /^[a-z0-9]+([._-]+[a-z0-9]+)*(\/[a-z0-9]+([._-]+[a-z0-9]+)*)*$/;
const TAG = /^[a-z0-9][a-z0-9_.-]{1,32}$/;

/** Why a name cannot be given to an image, or null. 3 to 65 characters. */
export function imageNameProblem(name: string): string | null {
  if (name.length < 3 || name.length > 65) return 'name must have 3 to 65 characters';
  return NAME.test(name) ? null : 'name must be lower-case letters and digits, separated by . _ - or /';
}

/** Why a tag cannot be given to an image, or null. 2 to 33 characters. */
export function imageTagProblem(tag: string): string | null {
  return TAG.test(tag)
    ? null
    : 'tag must be 2 to 33 lower-case letters, digits, . _ or -, starting with a letter or digit';
}

/** Null when the text can name no image at all. */
export function parseImageReference(text: string): ImageReference | null {
  if (isUuid(text)) return { kind: 'id', imageId: text.toLowerCase() };
  const colon = text.lastIndexOf(':');
  if (colon < 1 || colon === text.length - 1) return null;
  return { kind: 'name', path: text.slice(0, colon), tag: text.slice(colon + 1) };
}

/** Text to match literally inside a LIKE pattern with `\` as its escape. */
export const escapeLike = (text: string): string => text.replaceAll(/[\\%_]/g, (special) => `\\${special}`);
