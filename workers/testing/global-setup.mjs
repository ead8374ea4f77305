// Real servers for every test, started once per run. Node runs the .ts files natively here.
import { startTestServices } from './test-services.ts';

export default async function setup() {
  globalThis.canopyTestServices = await startTestServices();
}
