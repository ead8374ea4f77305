// `node infra/docker/healthcheck.mjs URL`: 0 when it answers 2xx within three seconds. The image has no curl.
const answer = await fetch(process.argv[2], { signal: AbortSignal.timeout(3000) }).catch(() => null);
process.exit(answer?.ok ? 0 : 1);
