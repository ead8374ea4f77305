/** One line of a build's output. `seq` grows by one a line within an attempt and never falls. */
export interface BuildLogLine {
  seq: number;
  atMs: number;
  logType: 'stdout' | 'stderr';
  log: string;
}

/** A later attempt's lines come after every line of an earlier one, whoever writes last. */
export const firstSeqOf = (attempt: number): number => attempt * 1_000_000_000;
/** After every attempt: the lines that close a log. */
export const CLOSING_SEQ = firstSeqOf(1_000_000);

/** One frame of the build-log stream (spec/validator-api.md §2.3): a single newline ends it; `offset` resumes after it. */
export const renderLogFrame = ({ seq, atMs, logType, log }: BuildLogLine): string =>
  `data: ${JSON.stringify({ log: { log_type: logType, log }, offset: `${atMs}-${seq + 1}` })}\n`;

export const KEEP_ALIVE_FRAME = '.\n';
export const DONE_FRAME = 'DONE\n';

/** `<ms>-<seq>` as sent in a frame: the first seq still wanted. Null when it is no offset. */
export function parseOffset(text: string): number | null {
  const match = /^\d{1,16}(?:-(\d{1,16}))?$/.exec(text);
  if (!match) return null;
  return Number(match[1] ?? 0);
}
