import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, readdir, readFile, readlink, rm, rmdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { errorCode } from './error-code.ts';

/** Names the build in the environment of what runs uncontained, so that a later sweep finds it. */
export const BUILD_MARK = 'CANOPY_FORGE_BUILD';
export const CGROUP_PARENT = 'canopy-forge';
const CGROUP_ROOT = '/sys/fs/cgroup';

export interface Workspace {
  /** this process's own folder: two forges never share one */
  dir: string;
  id: string;
  /** a fresh folder for one attempt */
  attempt: (imageId: string) => Promise<{ buildId: string; dir: string }>;
  /** removes what forges that died left: processes, cgroups, files */
  sweepDead: () => Promise<string[]>;
  close: () => Promise<void>;
}

/** `{workDir}/forge/{pid}-{start time}`: the start time tells a dead owner from one that inherited its number. */
export async function openWorkspace(workDir: string): Promise<Workspace> {
  const parent = resolve(workDir, 'forge');
  const id = `${process.pid}-${startTimeOf(process.pid) ?? '0'}`;
  const dir = join(parent, id);
  await mkdir(dir, { recursive: true, mode: 0o711 });
  return {
    dir,
    id,
    async attempt(imageId) {
      const buildId = `${id}-${imageId.slice(0, 8)}-${randomUUID().slice(0, 8)}`;
      const attemptDir = join(dir, buildId);
      await mkdir(attemptDir, { mode: 0o711 });
      return { buildId, dir: attemptDir };
    },
    async sweepDead() {
      const dead = (await readdir(parent)).filter((name) => !isAlive(name));
      for (const name of dead) {
        await sweepBuild(name);
        await rm(join(parent, name), { recursive: true, force: true, maxRetries: 5 });
      }
      return dead;
    },
    close: () => rm(dir, { recursive: true, force: true, maxRetries: 5 }),
  };
}

/** Kills every process whose environment carries the mark with this prefix (builds that had no namespace to die with). */
export async function sweepProcesses(buildIdPrefix: string): Promise<void> {
  for (let round = 0; round < 20; round++) {
    const pids = await markedProcesses(buildIdPrefix);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // it ended by itself, which is what we want
      }
    }
    await new Promise((wake) => setTimeout(wake, 10));
  }
}

/** Processes of a build still there; zombies are not. */
export async function markedProcesses(buildIdPrefix: string): Promise<number[]> {
  const mark = `${BUILD_MARK}=${buildIdPrefix}`;
  const found: number[] = [];
  for (const name of await readdir('/proc').catch(() => [])) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    const environment = await readFile(`/proc/${name}/environ`, 'latin1').catch(() => '');
    if (
      environment.split('\0').some((entry) => entry.startsWith(mark)) &&
      (await readlink(`/proc/${name}/exe`).catch(() => null))
    )
      found.push(Number(name));
  }
  return found;
}

/** Gives the build's cgroup a bound on processes where this host lets us; memory and CPU bounds are buildah's flags. */
export async function limitPids(buildId: string, pids: number): Promise<string | null> {
  for (const root of [join(CGROUP_ROOT, 'pids'), CGROUP_ROOT]) {
    try {
      const group = join(root, CGROUP_PARENT, buildId);
      await mkdir(group, { recursive: true });
      await writeFile(join(group, 'pids.max'), String(pids));
      return group;
    } catch {
      // the next layout, or a host whose cgroups are not ours
    }
  }
  return null;
}

/** Ends whatever still runs of a build, by its cgroup and by its mark. */
export async function sweepBuild(buildIdPrefix: string): Promise<void> {
  await removeCgroups(buildIdPrefix);
  await sweepProcesses(buildIdPrefix);
}

/** Removes a build's (or, by prefix, a dead forge's) cgroups, killing what is still in them. */
export async function removeCgroups(buildIdPrefix: string): Promise<void> {
  const hierarchies = [
    CGROUP_ROOT,
    ...(await readdir(CGROUP_ROOT).catch(() => [])).map((name) => join(CGROUP_ROOT, name)),
  ];
  for (const hierarchy of hierarchies) {
    const parent = join(hierarchy, CGROUP_PARENT);
    for (const name of (await readdir(parent).catch(() => [])).filter((each) => each.startsWith(buildIdPrefix)))
      await removeCgroup(join(parent, name));
  }
}

async function removeCgroup(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true }).catch(() => []))
    if (entry.isDirectory()) await removeCgroup(join(path, entry.name));
  for (let round = 0; round < 50; round++) {
    for (const pid of (await readFile(join(path, 'cgroup.procs'), 'utf8').catch(() => ''))
      .split('\n')
      .filter(Boolean)) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {
        // gone already
      }
    }
    const removed = await rmdir(path).then(
      () => true,
      (err: unknown) => errorCode(err) === 'ENOENT',
    );
    if (removed) return;
    await new Promise((wake) => setTimeout(wake, 20));
  }
}

function isAlive(owner: string): boolean {
  const [pid, startTime] = owner.split('-');
  return startTimeOf(Number(pid)) === startTime;
}

/** Field 22 of /proc/<pid>/stat: clock ticks since boot. Null when there is no such process. */
function startTimeOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}
