import { createLogger } from '../../activities/clients/log.ts';
import { loadRuntimeConfig } from '../../workers/config/runtime.ts';
import { runInstance } from './instance.ts';

/**
 * The instance runtime: in the chute's container, in front of the chute's own program. Exit 0 after a drain, 1 on
 * anything else. As PID 1 it ends with its children, but does not reap orphans of theirs: start containers with an init.
 */
const log = createLogger('instance', process.env.CANOPY_LOG_LEVEL);
const stop = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.on(signal, () => {
    log.info({ event: 'instance.stopping', signal }, 'instance.stopping');
    stop.abort();
  });
}
try {
  const config = loadRuntimeConfig(process.env);
  const end = await runInstance({ config, env: process.env, log, stop: stop.signal });
  if (end.kind === 'failed') log.error({ event: 'instance.failed', reason: end.reason }, 'instance.failed');
  else log.info({ event: 'instance.stopped' }, 'instance.stopped');
  process.exit(end.kind === 'stopped' ? 0 : 1);
} catch (err) {
  log.fatal({ event: 'instance.failed', err }, 'instance.failed');
  process.exit(1);
}
