import { expandProperties, expandWords, parseDockerfile, refuse, type DockerfileStep } from './dockerfile.ts';

export interface DockerfilePolicy {
  /** the network's own registry, where a build may only start from images of its own user */
  registry: string | null;
  username: string;
  network: 'none' | 'host';
}

// A reference to a registry and nothing else: buildah would also read `dir:/etc`, `docker-archive:…` and the like from the host.
const REFERENCE =
  /^[a-z0-9][a-z0-9.-]*(:[0-9]+)?(\/[a-z0-9][a-z0-9._-]*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$/;
const TRANSPORT = /^(dir|oci|oci-archive|docker-archive|docker-daemon|containers-storage|sif|tarball|ostree|atomic):/;
/** Bases everybody may start from, also out of the network's own registry. */
const SHARED_OWNERS = new Set(['parachutes', 'canopy', 'library', 'chutes']);

/** Refuses, before anything runs, what would reach past the build: the host's files, other users' images, a network it must not have. */
export function checkDockerfile(content: string, policy: DockerfilePolicy): DockerfileStep[] {
  const steps = parseDockerfile(content);
  const args: Record<string, string> = {};
  const stages = new Set<string>();
  let stageCount = 0;
  for (const step of steps) {
    if (step.keyword === 'ARG' && stageCount === 0)
      for (const [name, value] of expandProperties(step, args)) args[name] = value ?? '';
    if (step.keyword === 'FROM') {
      const [base = '', as, stage] = expandWords(step.text, args);
      if (base !== 'scratch' && !stages.has(base)) checkReference(step, base, policy);
      if (as?.toUpperCase() === 'AS' && stage) stages.add(stage);
      stages.add(String(stageCount++));
    }
    for (const { name, value } of step.flags) {
      if (name === 'from' && value !== null && !stages.has(value)) checkReference(step, value, policy);
      if (step.keyword === 'RUN' && name === 'mount') checkMount(step, value ?? '', stages, policy);
      if (step.keyword === 'RUN' && (name === 'security' || (name === 'network' && value !== 'none')))
        throw refuse(step, `--${name}=${value ?? ''} is not allowed`);
    }
    if (
      step.keyword === 'ADD' &&
      policy.network === 'none' &&
      /(^|\s|")(https?|ftp|git|ssh):\/\/|git@/i.test(step.text)
    )
      throw refuse(step, 'this forge builds without a network');
    if (step.keyword === 'ONBUILD') throw refuse(step, 'not allowed: it would run in builds of others');
  }
  return steps;
}

function checkReference(step: DockerfileStep, reference: string, { registry, username }: DockerfilePolicy): void {
  if (!REFERENCE.test(reference) || TRANSPORT.test(reference))
    throw refuse(step, `${reference.slice(0, 200)} is no image of a registry`);
  if (!registry || !reference.startsWith(`${registry}/`)) return;
  const owner = reference.slice(registry.length + 1).split('/')[0] ?? '';
  if (owner !== username.toLowerCase() && !SHARED_OWNERS.has(owner))
    throw refuse(step, `images of ${owner} are not yours to build on`);
}

/** Caches and temporary files stay in the build; binds only from its own stages; no secret or agent is ever there. */
function checkMount(step: DockerfileStep, mount: string, stages: ReadonlySet<string>, policy: DockerfilePolicy): void {
  const options = new Map(
    mount.split(',').map((option) => [option.split('=')[0] ?? '', option.slice(option.indexOf('=') + 1)] as const),
  );
  const type = options.get('type') ?? 'bind';
  if (type !== 'bind' && type !== 'tmpfs') throw refuse(step, `a mount of type ${type} is not allowed`);
  const from = options.get('from');
  if (from !== undefined && !stages.has(from)) checkReference(step, from, policy);
}
