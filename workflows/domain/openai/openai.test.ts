import { expect, test } from '@jest/globals';
import { renderCallError } from './errors.ts';
import { prepareVllmBody, readModel } from './prepare-body.ts';
import { believedUsage, outputCharacters, readUsage } from './usage.ts';

const prepare = (body: Record<string, unknown>, wantsThinking = false) => prepareVllmBody(body, { wantsThinking });

test.each([
  ['nothing to do', { model: 'm', messages: [] }, { kind: 'as_sent' }],
  ['usage asked for already', { stream: true, stream_options: { include_usage: true } }, { kind: 'as_sent' }],
  [
    'usage in streams',
    { stream: true, stream_options: { x: 1 } },
    { kind: 'changed', body: { stream: true, stream_options: { x: 1, include_usage: true } } },
  ],
  ['logprobs', { logprobs: true }, { kind: 'changed', body: { logprobs: true, top_logprobs: 1 } }],
  ['tools', { tools: [{}] }, { kind: 'changed', body: { tools: [{}], tool_choice: 'auto' } }],
  ['tool choice given', { tools: [{}], tool_choice: 'none' }, { kind: 'as_sent' }],
  [
    'broken tool call',
    { messages: [{}, { tool_calls: [{ function: { arguments: '{' } }] }] },
    {
      kind: 'refused',
      message: 'messages[1].tool_calls[0].function.arguments is not a JSON object',
      param: 'messages',
    },
  ],
  [
    'hostile shapes',
    { messages: [null, 1, { tool_calls: 'x' }, { tool_calls: [null] }], stream_options: 'x' },
    { kind: 'as_sent' },
  ],
])('vllm body: %s', (_name, body, expected) => {
  expect(prepare(body)).toEqual(expected);
});

test('thinking keeps what else the template gets; the suffix is not part of the name', () => {
  expect(prepare({ chat_template_kwargs: { a: 1 } }, true)).toEqual({
    kind: 'changed',
    body: { chat_template_kwargs: { a: 1, thinking: true, enable_thinking: true } },
  });
  expect([readModel('m:THINKING'), readModel('m'), readModel(''), readModel(7)]).toEqual([
    { model: 'm', wantsThinking: true },
    { model: 'm', wantsThinking: false },
    null,
    null,
  ]);
});

test.each([
  ['as claimed', { inputTokens: 7, outputTokens: 4 }, { inputTokens: 7, outputTokens: 4 }],
  ['up to ten times what was seen', { inputTokens: 100, outputTokens: 40 }, { inputTokens: 100, outputTokens: 40 }],
  ['past that, what was seen', { inputTokens: 101, outputTokens: 41 }, { inputTokens: 10, outputTokens: 4 }],
  ['no claim', null, { inputTokens: 10, outputTokens: 4 }],
])('usage: %s', (_name, claimed, believed) => {
  expect(believedUsage(claimed, { promptCharacters: 40, outputTokens: 4 })).toEqual(believed);
});

test('usage and text are read from answers of any shape', () => {
  expect(readUsage({ usage: { prompt_tokens: 5 } })).toEqual({ inputTokens: 5, outputTokens: 0 });
  for (const bad of [
    null,
    1,
    {},
    { usage: null },
    { usage: { prompt_tokens: -1 } },
    { usage: { prompt_tokens: 1.5 } },
    { usage: { prompt_tokens: '5' } },
  ])
    expect(readUsage(bad)).toBeNull();
  expect(outputCharacters({ choices: [{ text: 'ab' }, { message: { content: 'cde' } }, null, { message: 1 }] })).toBe(
    5,
  );
});

test('errors are OpenAI-shaped on its routes and `detail` elsewhere', () => {
  const error = { code: 'quota_exhausted' as const, message: 'used up', quotaResetMs: 0 };
  expect(renderCallError(error, true)).toEqual({
    error: {
      message: 'used up',
      type: 'insufficient_quota',
      param: null,
      code: 'quota_exhausted',
      quota_reset_timestamp: '1970-01-01T00:00:00.000Z',
    },
  });
  expect(renderCallError(error, false)).toEqual({
    detail: { message: 'used up', quota_reset_timestamp: '1970-01-01T00:00:00.000Z' },
    code: 'quota_exhausted',
  });
  expect(renderCallError({ code: 'not_found', message: 'no' }, false)).toEqual({ detail: 'no', code: 'not_found' });
});
