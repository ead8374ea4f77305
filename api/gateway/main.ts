import { createLogger } from '../../activities/clients/log.ts';
import { loadValidatorConfig } from '../../workers/config/validator.ts';
import { startGateway } from './start-gateway.ts';

const config = loadValidatorConfig(process.env);
const log = createLogger('gateway', config.CANOPY_LOG_LEVEL);
const gateway = await startGateway(config, log);

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    log.info({ event: 'program.stopping', program: 'gateway', signal }, 'program.stopping');
    void gateway.stop().then(() => process.exit(0));
  });
}
// Only now: whoever reads this line may stop us at once, and that must be a drain.
const { port } = gateway;
log.info(
  { event: 'program.listening', program: 'gateway', host: config.CANOPY_LISTEN_HOST, port, isReady: gateway.isReady() },
  'program.listening',
);
