import { readdir, readFile } from 'node:fs/promises';

/** A process a recycled pid cannot be mistaken for: its start time in clock ticks since a boot with a name. */
export interface ProcessIdentity {
  pid: number;
  startTicks: string;
  bootId: string;
}

/** Start time of a live process, from /proc; null when there is none (a zombie is none). */
export async function identityOf(pid: number): Promise<ProcessIdentity | null> {
  try {
    const [stat, bootId] = await Promise.all([readFile(`/proc/${pid}/stat`, 'utf8'), readBootId()]);
    // The command name may hold spaces and brackets: fields are counted after its last bracket.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state] = fields;
    const startTicks = fields[19];
    return state === 'Z' || state === 'X' || startTicks === undefined ? null : { pid, startTicks, bootId };
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT' || (err as NodeJS.ErrnoException).code === 'ESRCH')
      return null;
    throw err;
  }
}

export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  const now = await identityOf(identity.pid);
  return now !== null && now.startTicks === identity.startTicks && now.bootId === identity.bootId;
}

/** Signals every process of the group; false when the group has none left. */
export function signalGroup(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-pid, signal);
    return true;
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw err;
  }
}

let bootId: Promise<string> | null = null;
const readBootId = (): Promise<string> =>
  (bootId ??= readFile('/proc/sys/kernel/random/boot_id', 'utf8').then((text) => text.trim()));

/** Live members of a process group (zombies left out), from /proc. */
export async function groupMembers(groupId: number): Promise<number[]> {
  const members: number[] = [];
  for (const { pid, stat } of await allProcesses()) {
    const [state, , group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (Number(group) === groupId && state !== 'Z' && state !== 'X') members.push(pid);
  }
  return members;
}

/** Group leaders whose environment has `NAME=value`: how a start is found whose record was never written. */
export async function leadersWithEnvironment(name: string, value: string): Promise<number[]> {
  const wanted = `${name}=${value}`;
  const leaders: number[] = [];
  for (const { pid, stat } of await allProcesses()) {
    const [, , group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (Number(group) !== pid) continue;
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
    if (environment.split('\0').includes(wanted)) leaders.push(pid);
  }
  return leaders;
}

async function allProcesses(): Promise<{ pid: number; stat: string }[]> {
  const pids = (await readdir('/proc')).filter((name) => /^[0-9]+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => ({ pid, stat: await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null) })),
  );
  return found.flatMap(({ pid, stat }) => (stat === null ? [] : [{ pid, stat }]));
}
