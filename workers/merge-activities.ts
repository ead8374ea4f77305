type Activities = object;

/** One table of activities for a worker; two of one name would silently shadow each other, so that is an error at start. */
export function mergeActivities(...groups: readonly Activities[]): Record<string, unknown> {
  const merged: Record<string, unknown> = {};
  for (const [name, activity] of groups.flatMap((group) => Object.entries(group))) {
    if (name in merged) throw new Error(`two activities are named ${name}`);
    merged[name] = activity;
  }
  return merged;
}
