import ora, { type Ora } from 'ora';

/** Staged progress: a spinner on a terminal, plain lines elsewhere, one JSON object a line for machines. */
export interface Reporter {
  /** Runs one named stage; `note` tells what it is at. Throws what the stage throws, after saying so. */
  stage: <Result>(
    id: string,
    title: string,
    work: (note: (message: string) => void) => Promise<Result>,
  ) => Promise<Result>;
  /** A line that belongs to the story (a streamed build log, a token, a hint). */
  line: (message: string) => void;
  /** Text without a line end: streamed tokens. */
  text: (chunk: string) => void;
  summary: (facts: Record<string, unknown>, lines: string[]) => void;
}

export function createReporter({ json, tty = process.stdout.isTTY }: { json: boolean; tty?: boolean }): Reporter {
  if (json) return jsonReporter();
  return tty ? terminalReporter() : plainReporter();
}

const seconds = (startedAt: number): string => `${((performance.now() - startedAt) / 1000).toFixed(1)} s`;
const messageOf = (err: unknown): string => (err instanceof Error ? err.message : String(err));

/** `[████░░░░] 3/6` for stages that count. */
export function bar(done: number, total: number, width = 20): string {
  const filled = total === 0 ? width : Math.round((done / total) * width);
  return `[${'█'.repeat(filled)}${'░'.repeat(width - filled)}] ${done}/${total}`;
}

function terminalReporter(): Reporter {
  let spinner: Ora | null = null;
  const above = (write: () => void) => {
    spinner?.clear();
    write();
    spinner?.render();
  };
  return {
    async stage(id, title, work) {
      const startedAt = performance.now();
      const own = ora({ text: title, discardStdin: false }).start();
      const outer = spinner;
      spinner = own;
      try {
        const result = await work((message) => (own.text = `${title}  \u001b[2m${message}\u001b[0m`));
        own.stopAndPersist({
          symbol: '\u001b[32m✔\u001b[0m',
          text: `${title} \u001b[2m${id} · ${seconds(startedAt)}\u001b[0m`,
        });
        return result;
      } catch (err) {
        own.stopAndPersist({
          symbol: '\u001b[31m✖\u001b[0m',
          text: `${title} \u001b[2m${id} · ${seconds(startedAt)}\u001b[0m\n  ${messageOf(err)}`,
        });
        throw err;
      } finally {
        spinner = outer;
      }
    },
    line: (message) => above(() => process.stdout.write(`  \u001b[2m│\u001b[0m ${message}\n`)),
    text: (chunk) => {
      spinner?.stop();
      process.stdout.write(chunk);
    },
    summary: (_facts, lines) => process.stdout.write(`\n${lines.join('\n')}\n`),
  };
}

function plainReporter(): Reporter {
  return {
    async stage(id, title, work) {
      const startedAt = performance.now();
      process.stdout.write(`… ${title} (${id})\n`);
      try {
        const result = await work(() => {});
        process.stdout.write(`✔ ${title} (${id}) ${seconds(startedAt)}\n`);
        return result;
      } catch (err) {
        process.stdout.write(`✖ ${title} (${id}) ${seconds(startedAt)}: ${messageOf(err)}\n`);
        throw err;
      }
    },
    line: (message) => process.stdout.write(`  │ ${message}\n`),
    text: (chunk) => process.stdout.write(chunk),
    summary: (_facts, lines) => process.stdout.write(`\n${lines.join('\n')}\n`),
  };
}

function jsonReporter(): Reporter {
  const emit = (record: Record<string, unknown>) =>
    process.stdout.write(`${JSON.stringify({ time: new Date().toISOString(), ...record })}\n`);
  return {
    async stage(id, title, work) {
      const startedAt = performance.now();
      emit({ event: 'stage.started', id, title });
      try {
        const result = await work((message) => emit({ event: 'stage.note', id, message }));
        emit({ event: 'stage.held', id, title, durationMs: Math.round(performance.now() - startedAt) });
        return result;
      } catch (err) {
        emit({
          event: 'stage.failed',
          id,
          title,
          durationMs: Math.round(performance.now() - startedAt),
          reason: messageOf(err),
        });
        throw err;
      }
    },
    line: (message) => emit({ event: 'line', message }),
    text: (chunk) => emit({ event: 'text', chunk }),
    summary: (facts) => emit({ event: 'summary', ...facts }),
  };
}
