import { join } from 'node:path';
import { RunningNetwork } from '../e2e/running-network.ts';
import { runSdkTest } from '../sdk-test/sdk-test.ts';
import { ensureSdk } from '../sdk-test/sdk-venv.ts';

/** `npm run test:sdk`: the reference SDK, unmodified, against a network of its own. `CANOPY_URL` names a running one instead. */
const program = await ensureSdk(join(import.meta.dirname, '../../.canopy'));
const report = (line: string): void => void process.stdout.write(`${line}\n`);

const running = process.env.CANOPY_URL;
if (running)
  process.exit((await runSdkTest({ baseUrl: running.replace(/\/+$/, ''), program, report })).failed > 0 ? 1 : 0);

const network = await RunningNetwork.start(['--fresh', '--no-tour']);
try {
  const { urls } = await network.ready();
  const { failed } = await runSdkTest({ baseUrl: urls.public, program, report });
  process.exitCode = failed > 0 ? 1 : 0;
} catch (err) {
  report(err instanceof Error ? err.message : String(err));
  report('0 passed, 1 failed');
  process.exitCode = 1;
} finally {
  await network.remove();
}
