export default async function teardown() {
  await globalThis.canopyTestServices?.stop();
}
