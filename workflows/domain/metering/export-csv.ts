import { isObject } from '../openai/prepare-body.ts';

/** Columns auditors read, in order (spec/validator-api.md §2.12; audit-and-chain.md A.7). `user_id` is deliberately absent. */
export const INVOCATION_COLUMNS = [
  'parent_invocation_id',
  'invocation_id',
  'chute_id',
  'chute_user_id',
  'function_name',
  'image_id',
  'image_user_id',
  'instance_id',
  'miner_uid',
  'miner_hotkey',
  'started_at',
  'completed_at',
  'error_message',
  'compute_multiplier',
  'bounty',
  'metrics',
] as const;
export const REPORT_COLUMNS = [
  'invocation_id',
  'user_id',
  'timestamp',
  'confirmed_at',
  'confirmed_by',
  'reason',
] as const;
export const JOB_COLUMNS = [
  'job_id',
  'chute_id',
  'version',
  'chutes_version',
  'method',
  'miner_uid',
  'miner_hotkey',
  'miner_coldkey',
  'instance_id',
  'created_at',
  'updated_at',
  'started_at',
  'finished_at',
  'status',
  'compute_multiplier',
  'miner_terminated',
] as const;

/** One row of the invocations file: ids as text, times in the CSV's own form (six digits, no zone), numbers as text. */
export type InvocationRow = Record<(typeof INVOCATION_COLUMNS)[number], string | number | null> & {
  metrics: string | null;
};

/** A dict as a Python literal: auditors parse the cell with a literal parser, which refuses `true` and `null`. */
export function pythonLiteral(value: unknown): string {
  if (value === null || value === undefined) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (typeof value === 'number') return Number.isFinite(value) ? String(value) : 'None';
  if (typeof value === 'string') return pythonString(value);
  if (Array.isArray(value)) return `[${value.map(pythonLiteral).join(', ')}]`;
  if (!isObject(value)) return 'None';
  const entries = Object.entries(value).filter(([, item]) => typeof item !== 'number' || Number.isFinite(item));
  return `{${entries.map(([key, item]) => `${pythonString(key)}: ${pythonLiteral(item)}`).join(', ')}}`;
}

function pythonString(text: string): string {
  const escaped = text.replace(/[\\']/g, '\\$&').replace(/\n/g, '\\n').replace(/\r/g, '\\r').replace(/\t/g, '\\t');
  // eslint-disable-next-line no-control-regex -- exactly the characters that a literal may not hold
  return `'${escaped.replace(/[\u0000-\u001f\u007f]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`)}'`;
}

/** One line, CRLF included, quoted as Python's csv does by default: only where comma, quote or a line end is inside. */
export function csvLine(cells: readonly (string | number | null)[]): string {
  return `${cells.map(csvCell).join(',')}\r\n`;
}

function csvCell(cell: string | number | null): string {
  if (cell === null) return '';
  const text = String(cell);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** The hour `[startMs, startMs + 1 h)` as the wire names it: by its END (spec/validator-internals.md §2.13). */
export function exportPath(kind: ExportKind, endMs: number): string {
  const [date = '', time = ''] = new Date(endMs).toISOString().split('T');
  return `invocations/${date.replaceAll('-', '/')}/${time.slice(0, 2)}${kind === 'invocations' ? '' : `-${kind}`}.csv`;
}
export type ExportKind = 'invocations' | 'reports' | 'jobs';
export const HOUR_MS = 3_600_000;
/** Exports begin here (§2.12: earlier is 404). */
export const FIRST_EXPORT_MS = Date.UTC(2024, 11, 14);

/** `{year}/{month}/{day}/{HH}[-reports|-jobs].csv`, parts padded or not. `bad_name` is a 400, `out_of_range` a 404. */
export function readExportName(
  year: string,
  month: string,
  day: string,
  file: string,
  nowMs: number,
): { kind: ExportKind; endMs: number } | 'bad_name' | 'out_of_range' {
  const parts = /^(\d{1,2})(-reports|-jobs)?\.csv$/.exec(file);
  if (!parts || !/^\d{4}$/.test(year) || !/^\d{1,2}$/.test(month) || !/^\d{1,2}$/.test(day)) return 'bad_name';
  const [y, m, d, h] = [Number(year), Number(month), Number(day), Number(parts[1])];
  const endMs = Date.UTC(y, m - 1, d, h);
  const read = new Date(endMs);
  if (h > 23 || read.getUTCMonth() !== m - 1 || read.getUTCDate() !== d) return 'bad_name';
  if (endMs < FIRST_EXPORT_MS || endMs - HOUR_MS > nowMs) return 'out_of_range';
  return { kind: parts[2] === '-reports' ? 'reports' : parts[2] === '-jobs' ? 'jobs' : 'invocations', endMs };
}
