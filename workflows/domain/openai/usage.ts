import { isObject } from './prepare-body.ts';

export interface Usage {
  inputTokens: number;
  outputTokens: number;
}

/** `usage` of an answer or a stream's last chunk; null when there is none to read. */
export function readUsage(answer: unknown): Usage | null {
  if (!isObject(answer) || !isObject(answer.usage)) return null;
  const { prompt_tokens: input, completion_tokens: output = 0 } = answer.usage;
  return isCount(input) && isCount(output) ? { inputTokens: input, outputTokens: output } : null;
}

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

/** A token is at least some characters on average; without a tokenizer this bounds a claim, it does not replace it. */
const CHARACTERS_PER_TOKEN = 4;
const BELIEVED_RATIO = 10;
export const estimateTokens = (characters: number): number => Math.ceil(characters / CHARACTERS_PER_TOKEN);

/**
 * An instance states its own usage and is paid by it, so a claim is believed only up to ten times what was seen on the
 * wire (spec/validator-internals.md §4.4); past that, or without a claim, what was seen counts. A zero claim for a
 * prompt that was sent is no claim.
 */
export function believedUsage(claimed: Usage | null, seen: { promptCharacters: number; outputTokens: number }): Usage {
  const input = estimateTokens(seen.promptCharacters);
  const believed = (claim: number | undefined, own: number): number =>
    claim !== undefined && claim <= BELIEVED_RATIO * own ? claim : own;
  return {
    inputTokens: believed(claimed?.inputTokens, input),
    outputTokens: believed(claimed?.outputTokens, seen.outputTokens),
  };
}

/** Characters of generated text in a whole (not streamed) answer. */
export function outputCharacters(answer: unknown): number {
  if (!isObject(answer) || !Array.isArray(answer.choices)) return 0;
  let characters = 0;
  for (const choice of answer.choices) {
    if (!isObject(choice)) continue;
    const message = isObject(choice.message) ? choice.message : {};
    for (const text of [choice.text, message.content, message.reasoning_content])
      if (typeof text === 'string') characters += text.length;
    if (Array.isArray(message.tool_calls)) characters += JSON.stringify(message.tool_calls).length;
  }
  return characters;
}
