/** A JSON object as a caller sent it. */
export type JsonObject = Record<string, unknown>;
export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export type Prepared =
  | { kind: 'as_sent' }
  | { kind: 'changed'; body: JsonObject }
  | { kind: 'refused'; message: string; param: string };

/**
 * The vllm rules of spec/validator-api.md §3.3 and §3.5 that touch text only: usage in streams, `top_logprobs`,
 * `tool_choice`, thinking, tool-call arguments. The body is written anew only when a rule changed something.
 */
export function prepareVllmBody(sent: JsonObject, { wantsThinking }: { wantsThinking: boolean }): Prepared {
  const badCall = badToolCall(sent);
  if (badCall) return { kind: 'refused', message: `${badCall} is not a JSON object`, param: 'messages' };
  const changes: JsonObject = {};
  if (sent.stream === true) {
    const options = isObject(sent.stream_options) ? sent.stream_options : {};
    if (options.include_usage !== true) changes.stream_options = { ...options, include_usage: true };
  }
  if (sent.logprobs === true && sent.top_logprobs === undefined) changes.top_logprobs = 1;
  if (Array.isArray(sent.tools) && sent.tools.length > 0 && sent.tool_choice === undefined)
    changes.tool_choice = 'auto';
  if (wantsThinking) {
    const kwargs = isObject(sent.chat_template_kwargs) ? sent.chat_template_kwargs : {};
    changes.chat_template_kwargs = { ...kwargs, thinking: true, enable_thinking: true };
  }
  return Object.keys(changes).length === 0 ? { kind: 'as_sent' } : { kind: 'changed', body: { ...sent, ...changes } };
}

/** Where the first tool call with unusable arguments is, or null. */
function badToolCall(body: JsonObject): string | null {
  if (!Array.isArray(body.messages)) return null;
  for (const [index, message] of body.messages.entries()) {
    const calls: unknown = isObject(message) ? message.tool_calls : null;
    for (const [at, call] of (Array.isArray(calls) ? calls : []).entries()) {
      const args: unknown = isObject(call) && isObject(call.function) ? call.function.arguments : undefined;
      if (typeof args === 'string' && !isJsonObject(args))
        return `messages[${index}].tool_calls[${at}].function.arguments`;
    }
  }
  return null;
}

function isJsonObject(text: string): boolean {
  try {
    return isObject(JSON.parse(text));
  } catch {
    return false;
  }
}

const THINKING_SUFFIX = ':THINKING';

/** The model asked for, without `:THINKING` (§3.3, rule 3). */
export function readModel(model: unknown): { model: string; wantsThinking: boolean } | null {
  if (typeof model !== 'string' || model === '') return null;
  return model.endsWith(THINKING_SUFFIX)
    ? { model: model.slice(0, -THINKING_SUFFIX.length), wantsThinking: true }
    : { model, wantsThinking: false };
}
