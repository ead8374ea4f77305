import { outputCharacters, estimateTokens, readUsage, type Usage } from '../../workflows/domain/openai/usage.ts';

/** Reads usage from an answer as it passes; changes nothing. */
export interface AnswerObserver {
  push(chunk: Buffer): void;
  /** the answer said it is complete (`[DONE]`) */
  readonly isDone: boolean;
  /** what was seen; call after the last push */
  finish(): Observed;
}
export interface Observed {
  claimed: Usage | null;
  outputTokens: number;
  chunks: number | null;
}

const LONGEST_LINE = 1024 ** 2;
const CONTENT = /"(?:content|text|reasoning_content|arguments)"\s*:\s*"(?!")/;

/** Server-sent events: counts chunks with content, keeps the usage of the last chunk that has one. */
export function observeStream(): AnswerObserver {
  let rest = '';
  let chunks = 0;
  let claimed: Usage | null = null;
  let isDone = false;
  const line = (text: string): void => {
    if (!text.startsWith('data:')) return;
    const data = text.slice(5).trim();
    if (data === '[DONE]') isDone = true;
    if (CONTENT.test(data)) chunks += 1;
    if (data.includes('"usage"')) claimed = readUsage(parse(data)) ?? claimed;
  };
  return {
    get isDone() {
      return isDone;
    },
    push(chunk) {
      // latin1 keeps every byte: only ASCII is looked at
      const lines = (rest + chunk.toString('latin1')).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > LONGEST_LINE) rest = '';
      for (const text of lines) line(text);
      // the end of the stream may come without a line end behind it
      if (rest.trimEnd() === 'data: [DONE]') isDone = true;
    },
    finish() {
      line(rest);
      return { claimed, outputTokens: chunks, chunks };
    },
  };
}

const LARGEST_JSON = 16 * 1024 ** 2;

/** A whole JSON answer; larger than anyone's text is not read. */
export function observeJson(): AnswerObserver {
  const parts: Buffer[] = [];
  let size = 0;
  return {
    isDone: false,
    push(chunk) {
      size += chunk.length;
      if (size <= LARGEST_JSON) parts.push(chunk);
    },
    finish() {
      const answer = size <= LARGEST_JSON ? parse(Buffer.concat(parts).toString('utf8')) : null;
      return { claimed: readUsage(answer), outputTokens: estimateTokens(outputCharacters(answer)), chunks: null };
    },
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
