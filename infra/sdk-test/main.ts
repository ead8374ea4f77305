import { join } from 'node:path';
import { runSdkTest } from './sdk-test.ts';
import { ensureSdk } from './sdk-venv.ts';

/** `CANOPY_URL=http://127.0.0.1:8000 node infra/sdk-test/main.ts`: the reference SDK against a running network. */
const baseUrl = process.env.CANOPY_URL;
if (!baseUrl) throw new Error('CANOPY_URL is missing: the address of a running network');
const program = await ensureSdk(process.env.CANOPY_TOOLS_DIR ?? join(import.meta.dirname, '../../.canopy'));
const { failed } = await runSdkTest({
  baseUrl: baseUrl.replace(/\/+$/, ''),
  program,
  report: (line) => void process.stdout.write(`${line}\n`),
});
process.exitCode = failed > 0 ? 1 : 0;
