import { uuid5 } from '../ids.ts';
import type { Cord } from './chute-definition.ts';

/** One id for equal cord lists, so that lists send each once (spec/validator-api.md §2.4.4). For template `vllm` the schema
 * default that only repeats the chute's name is blanked first: otherwise no two LLM chutes would ever share. */
export function cordRefId(cords: readonly Cord[], standardTemplate: string | null, chuteName: string): string {
  return uuid5(
    JSON.stringify(cords, (key, value: unknown) =>
      standardTemplate === 'vllm' && key === 'default' && value === chuteName ? '' : value,
    ),
  );
}

/** The cords of a list's `cord_refs`: schemas are long, and most readers want only the paths. */
export function withoutSchemas(
  cords: readonly Cord[],
): Omit<Cord, 'input_schema' | 'output_schema' | 'minimal_input_schema'>[] {
  return cords.map(({ input_schema: _in, output_schema: _out, minimal_input_schema: _minimal, ...cord }) => cord);
}
