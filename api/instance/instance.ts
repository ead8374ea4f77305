import { once } from 'node:events';
import { writeFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Server } from 'node:net';
import type { Logger } from 'pino';
import { findProverEngine, proverName } from '../../activities/clients/prover-engine.ts';
import type { RuntimeConfig } from '../../workers/config/runtime.ts';
import type { VerifyAnswer } from '../../workflows/domain/protocol/launch.ts';
import { childEnvironment } from './child/child-environment.ts';
import {
  freePort,
  referenceCommand,
  startChuteProcess,
  untilServing,
  type ChuteProcess,
} from './child/chute-process.ts';
import { LaunchClient } from './launch/launch-client.ts';
import { extraPortsOf, launchInstance } from './launch/launch-instance.ts';
import { readLaunchToken } from './launch/launch-token.ts';
import { createTransportIdentity } from './launch/transport-identity.ts';
import { createSignatureCheck } from './logs/chutes-signature.ts';
import { LogFile } from './logs/log-file.ts';
import { createLogServer } from './logs/log-server.ts';
import { createInstanceServer } from './serve/instance-server.ts';

const CHILD_STOP_MS = 5000;

export interface InstanceOptions {
  config: RuntimeConfig;
  env: NodeJS.ProcessEnv;
  log: Logger;
  /** aborted by SIGTERM */
  stop: AbortSignal;
  launchBackoffMs?: number;
}

/** `stopped`: asked to, after draining. `failed`: anything else; the miner and the validator repair that. */
export type InstanceEnd = { kind: 'stopped' } | { kind: 'failed'; reason: string };

/** One instance from its launch token to its end (spec/sdk-and-runtime.md §3.5, §6.1). Leaves nothing running. */
export async function runInstance({
  config,
  env,
  log,
  stop,
  launchBackoffMs = 250,
}: InstanceOptions): Promise<InstanceEnd> {
  const logs = new LogFile({ dir: config.CANOPY_WORK_DIR });
  const say = (text: string): void => logs.append(process.pid, 'canopy', text);
  const logServer = createLogServer({
    logs,
    checkSignature: createSignatureCheck({ miner: config.CANOPY_MINER_SS58, validator: config.CANOPY_VALIDATOR_SS58 }),
  });
  const claims = readLaunchToken(config.CHUTES_LAUNCH_JWT.reveal());
  const identity = createTransportIdentity(`${claims.sub}.int.canopy`);
  const front = createInstanceServer({ identity, log });
  let chute: ChuteProcess | null = null;
  try {
    const engine = await findProverEngine(config.CANOPY_GRAVAL ?? null);
    // Both ports first: a conflict found here burns no launch permission.
    await listen(logServer, config.CANOPY_BIND_LOG_PORT, config.CANOPY_BIND_HOST);
    await listen(front.server, config.CANOPY_BIND_PORT, config.CANOPY_BIND_HOST);
    const token = config.CHUTES_LAUNCH_JWT.reveal();
    const client = new LaunchClient({ url: claims.url, token, log, signal: stop, backoffMs: launchBackoffMs });
    const devices = devicesOf(config);
    const provers = new Set(devices.map(({ uuid }) => proverName(engine.placeOf(uuid))));
    log.info(
      { event: 'launch.started', configId: claims.sub, validator: new URL(claims.url).origin, provers: [...provers] },
      'launch.started',
    );
    say(`launch: claiming ${devices.length} GPUs, to be proven by ${[...provers].join(' and ')}`);
    const { answer, sessionSecret } = await launchInstance({
      client,
      identity,
      devices,
      host: config.CHUTES_EXTERNAL_HOST,
      ports: { primary: config.CHUTES_PORT_PRIMARY, logging: config.CHUTES_PORT_LOGGING },
      extraPorts: extraPortsOf(env),
      configId: claims.sub,
      expiresAt: claims.exp * 1000,
      engine,
      signal: stop,
    });
    const ids = { configId: claims.sub, instanceId: answer.instance_id, chuteId: answer.chute_id };
    log.info({ event: 'launch.verified', ...ids, trustLevel: answer.canopy.trust_level }, 'launch.verified');
    say(`launch: verified (${answer.canopy.trust_level}), starting the chute`);
    chute = await startChute(config, env, answer, (pid, program, line) => logs.append(pid, program, line));
    await untilServing(chute, stop);
    front.open({
      sessionSecret,
      chuteId: answer.chute_id,
      concurrency: answer.canopy.concurrency,
      childPort: chute.port,
    });
    await client.activate();
    log.info({ event: 'instance.active', ...ids, concurrency: answer.canopy.concurrency }, 'instance.active');
    say('launch: active');

    const ended = await Promise.race([chute.ended, aborted(stop)]);
    front.close(ended === null ? 'draining' : 'broken');
    const drainMs = ended === null ? config.CANOPY_DRAIN_SECONDS * 1000 : 1000;
    const cut = await front.drain(drainMs);
    log.info({ event: 'instance.drained', ...ids, cut }, 'instance.drained');
    if (ended === null) return { kind: 'stopped' };
    say(`the chute ${ended}`);
    return { kind: 'failed', reason: `the chute ${ended}` };
  } catch (err) {
    if (stop.aborted) return { kind: 'stopped' };
    const reason = (err as Error).message;
    say(`launch failed: ${reason}`);
    return { kind: 'failed', reason };
  } finally {
    front.close('draining');
    await chute?.stop(CHILD_STOP_MS);
    await Promise.all([shut(front.server), shut(logServer)]);
    logs.close();
  }
}

async function startChute(
  config: RuntimeConfig,
  env: NodeJS.ProcessEnv,
  answer: VerifyAnswer,
  onLine: (pid: number, program: string, line: string) => void,
): Promise<ChuteProcess> {
  const { filename, ref_str: refStr } = answer.canopy;
  // Names from the wire become paths and arguments here: the spec's own patterns, once more (§2.3).
  if (!/^[a-z][a-z0-9_]*\.py$/i.test(filename)) throw new Error(`the chute's filename is not usable: ${filename}`);
  if (!/^[a-z][a-z0-9_]*:[a-z][a-z0-9_]*$/i.test(refStr))
    throw new Error(`the chute's ref_str is not usable: ${refStr}`);
  await mkdir(config.CANOPY_APP_DIR, { recursive: true });
  await writeFile(join(config.CANOPY_APP_DIR, filename), answer.code);
  const port = await freePort();
  const command =
    config.CANOPY_COMMAND.length > 0 ? config.CANOPY_COMMAND : referenceCommand(refStr, port, await freePort());
  const childEnv = childEnvironment({ env, secrets: answer.secrets, port });
  return startChuteProcess({ command, cwd: config.CANOPY_APP_DIR, env: childEnv, port, onLine });
}

/** The assigned devices of those the agent knows (spec/sdk-and-runtime.md §6.1 row 10). */
function devicesOf({
  CANOPY_DEVICES: devices,
  NVIDIA_VISIBLE_DEVICES: visible,
}: RuntimeConfig): RuntimeConfig['CANOPY_DEVICES'] {
  const assigned = visible
    .split(',')
    .map((name) => name.trim().replace(/^GPU-/i, '').replaceAll('-', '').toLowerCase());
  return visible === '' ? devices : devices.filter(({ uuid }) => assigned.includes(uuid));
}

async function listen(server: Server, port: number, host: string): Promise<void> {
  server.listen(port, host);
  await once(server, 'listening');
}

async function shut(server: Server & { closeAllConnections: () => void }): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}

const aborted = (signal: AbortSignal): Promise<null> =>
  new Promise((resolve) =>
    signal.aborted ? resolve(null) : signal.addEventListener('abort', () => resolve(null), { once: true }),
  );
