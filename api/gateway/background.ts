import type { Logger } from '../../activities/clients/log.ts';

export interface Background {
  /** Runs once more, after a run under way; never throws: a failure is logged and tried again at its time. */
  now: () => Promise<void>;
  stop: () => Promise<void>;
}

/** Work beside the requests: one run at a time, `everyMs` between the end of one and the start of the next. */
export function repeat(event: string, everyMs: number, log: Logger, work: () => Promise<void>): Background {
  let tail = Promise.resolve();
  let hasFailed = false;
  let isStopped = false;
  let timer: NodeJS.Timeout | undefined;
  const run = async (): Promise<void> => {
    try {
      await work();
      if (hasFailed) log.info({ event: `${event}.recovered` }, `${event}.recovered`);
      hasFailed = false;
    } catch (err) {
      // once an outage, not once a second
      if (!hasFailed) log.warn({ event: `${event}.failed`, err }, `${event}.failed`);
      hasFailed = true;
    }
  };
  const now = (): Promise<void> => (tail = tail.then(run));
  const arm = (): void => {
    if (!isStopped) timer = setTimeout(() => void now().then(arm), everyMs);
  };
  arm();
  return {
    now,
    stop: async () => {
      isStopped = true;
      clearTimeout(timer);
      await tail;
    },
  };
}
