/** Status words of the wire (spec/validator-api.md §2.3): clients compare `built and pushed` exactly. */
export const PENDING = 'pending build';
export const BUILDING = 'building';
export const BUILT = 'built and pushed';
export const errorStatus = (reason: string): string => `error: ${reason}`;

/** Nothing will change any more but by deletion. */
export const isFinished = (status: string): boolean => status === BUILT || status.startsWith('error:');
