import { BuildFailure } from './build-failure.ts';

/** One instruction with its variables still in it. `line` counts from 1. */
export interface DockerfileStep {
  line: number;
  keyword: string;
  flags: { name: string; value: string | null }[];
  /** the arguments as one text: continuation lines joined, comments between them and flags left out */
  text: string;
  /** the exec form's strings (`["a", "b"]`), or null for the shell form */
  exec: string[] | null;
  /** it carries a here-document, which `text` does not */
  heredoc: boolean;
}

const FLAGGED = new Set(['FROM', 'RUN', 'COPY', 'ADD', 'HEALTHCHECK']);
const HEREDOC = new Set(['RUN', 'COPY', 'ADD']);

/** The instructions in order. Throws `BuildFailure` naming the line of what is no Dockerfile. */
export function parseDockerfile(content: string): DockerfileStep[] {
  const lines = content.replace(/^\uFEFF/, '').split(/\r?\n/);
  const steps: DockerfileStep[] = [];
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? '';
    if (isBlank(line)) {
      const directive = steps.length === 0 ? /^#\s*escape\s*=\s*(\S)/.exec(line.trim()) : null;
      if (directive && directive[1] !== '\\')
        throw new BuildFailure(`Dockerfile line ${at + 1}: only the backslash can be the escape character`);
      continue;
    }
    const startedAt = at + 1;
    let text = '';
    for (let more = true; more && at < lines.length;) {
      const part = lines[at] ?? '';
      const skipped = text !== '' && isBlank(part); // a comment or an empty line inside an instruction
      more = skipped || /\\\s*$/.test(part);
      if (!skipped) text += more ? part.replace(/\\\s*$/, '') : part;
      if (more) at++;
    }
    const step = toStep(text, startedAt);
    if (step.heredoc) at = skipHeredocs(lines, at, step.text);
    steps.push(step);
  }
  if (steps.length === 0) throw new BuildFailure('Dockerfile is empty');
  const first = steps.find((step) => step.keyword !== 'ARG');
  if (first?.keyword !== 'FROM') throw refuse(first ?? steps[0], 'a Dockerfile begins with FROM');
  return steps;
}

const isBlank = (line: string): boolean => /^\s*(#|$)/.test(line);

function toStep(text: string, line: number): DockerfileStep {
  const match = /^\s*([A-Za-z]+)(?:\s+([^]*))?$/.exec(text);
  if (!match) throw new BuildFailure(`Dockerfile line ${line}: not an instruction: ${text.trim().slice(0, 80)}`);
  const keyword = (match[1] ?? '').toUpperCase();
  let rest = (match[2] ?? '').trim();
  const flags: DockerfileStep['flags'] = [];
  while (FLAGGED.has(keyword)) {
    const flag = /^--([a-z-]+)(?:=(\S*))?(?:\s+|$)/.exec(rest);
    if (!flag) break;
    flags.push({ name: flag[1] ?? '', value: flag[2] ?? null });
    rest = rest.slice(flag[0].length);
  }
  return {
    line,
    keyword,
    flags,
    text: rest,
    exec: execForm(rest),
    heredoc: HEREDOC.has(keyword) && HEREDOC_START.test(rest),
  };
}

const HEREDOC_START = /(?:^|\s)<<-?(["']?)([A-Za-z_]\w*)\1/;

function skipHeredocs(lines: readonly string[], at: number, text: string): number {
  let position = at;
  for (const [, , word] of text.matchAll(new RegExp(HEREDOC_START, 'g'))) {
    do position++;
    while (position < lines.length && lines[position]?.replace(/^\t+/, '') !== word);
  }
  return position;
}

/** Docker takes what is no JSON list of strings as a shell command. */
function execForm(text: string): string[] | null {
  if (!text.startsWith('[')) return null;
  try {
    const parsed: unknown = JSON.parse(text);
    return Array.isArray(parsed) && parsed.every((item) => typeof item === 'string') ? parsed : null;
  } catch {
    return null;
  }
}

export function refuse(step: Pick<DockerfileStep, 'line' | 'keyword'> | undefined, why: string): BuildFailure {
  return new BuildFailure(step ? `Dockerfile line ${step.line}: ${step.keyword}: ${why}` : why);
}

export type Variables = Readonly<Record<string, string>>;

/** Words of an argument list with `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:+other}` replaced (an unset name is
 * empty). Quotes group, single ones also keep `$`; a backslash takes the next character as it is. */
export function expandWords(text: string, variables: Variables): string[] {
  const words: string[] = [];
  let word: string | null = null;
  let quote: string | null = null;
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    if (char === '\\' && quote !== "'" && at + 1 < text.length) word = (word ?? '') + text.charAt(++at);
    else if (char === '$' && quote !== "'") {
      const { value, length } = expandAt(text.slice(at), variables);
      word = (word ?? '') + value;
      at += length - 1;
    } else if (quote) {
      if (char === quote) quote = null;
      else word = (word ?? '') + char;
    } else if (char === '"' || char === "'") {
      quote = char;
      word ??= '';
    } else if (/\s/.test(char)) {
      if (word !== null) words.push(word);
      word = null;
    } else word = (word ?? '') + char;
  }
  if (word !== null) words.push(word);
  return words;
}

/** The same as one text. */
export const expand = (text: string, variables: Variables): string => expandWords(text, variables).join(' ');

function expandAt(text: string, variables: Variables): { value: string; length: number } {
  const match = /^\$(?:\{([A-Za-z_]\w*)(?::([-+])([^}]*))?\}|([A-Za-z_]\w*))/.exec(text);
  if (!match) return { value: '$', length: 1 };
  const value = variables[match[1] ?? match[4] ?? ''] ?? '';
  const word = (): string => expand(match[3] ?? '', variables);
  if (match[2] === '-') return { value: value === '' ? word() : value, length: match[0].length };
  if (match[2] === '+') return { value: value === '' ? '' : word(), length: match[0].length };
  return { value, length: match[0].length };
}

/** `NAME=value …`, or the old `NAME value` (ENV and LABEL only). A name without a value is null (ARG). */
export function expandProperties(step: DockerfileStep, variables: Variables): [name: string, value: string | null][] {
  const old = /^(\S+?)\s+([^]*)$/.exec(step.text);
  if (step.keyword !== 'ARG' && old?.[1] && !old[1].includes('=')) return [[old[1], expand(old[2] ?? '', variables)]];
  return expandWords(step.text, variables).map((word) => {
    const equals = word.indexOf('=');
    if (equals === 0 || (equals < 0 && step.keyword !== 'ARG')) throw refuse(step, `expected NAME=value, not ${word}`);
    return equals < 0 ? [word, null] : [word.slice(0, equals), word.slice(equals + 1)];
  });
}
