/** `ENOENT` and the like. Not by class: errors of Node's core may come from another realm. */
export const errorCode = (err: unknown): string | null =>
  typeof err === 'object' && err !== null && 'code' in err && typeof err.code === 'string' ? err.code : null;

/** The operating system refused something, as opposed to our own checks. */
export const isSystemError = (err: unknown): boolean => typeof err === 'object' && err !== null && 'syscall' in err;
