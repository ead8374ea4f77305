/**
 * A step that may be sent again: the same content gets the first answer (also while that is being made), other content is
 * the caller's to refuse. A step that failed is forgotten, so it can be tried again. `receivedAtMs` is not content.
 */
export function onceByContent<Input, Output>(run: (input: Input) => Promise<Output>) {
  let earlier: { key: string; outcome: Promise<Output> } | null = null;
  return {
    isRepeat: (input: Input): boolean => earlier?.key === keyOf(input),
    answer: async (input: Input): Promise<Output> => {
      if (earlier?.key === keyOf(input)) return earlier.outcome;
      const mine = { key: keyOf(input), outcome: run(input) };
      earlier = mine;
      try {
        return await mine.outcome;
      } catch (err) {
        if (earlier === mine) earlier = null;
        throw err;
      }
    },
  };
}

const keyOf = (input: unknown): string =>
  JSON.stringify(input, (name, value: unknown) => (name === 'receivedAtMs' ? undefined : value));
