import { statfs } from 'node:fs/promises';
import { availableParallelism, hostname, totalmem } from 'node:os';
import { Router } from 'express';
import { Refusal } from '../../workflows/domain/errors.ts';
import { challengedIndex, deviceInfoAnswer } from '../../workflows/domain/nodes/device-info.ts';
import type { PovwChallenge } from '../../workflows/domain/proof/messages.ts';
import { jsonBodyOf, rawBody } from '../http/raw-body.ts';
import { parse } from '../http/validate.ts';
import type { AgentAuth } from './agent-auth.ts';
import type { Inventory } from './devices.ts';
import type { ProofSessions } from './proof-sessions.ts';
import { commitRequest, infoQuery, openRequest, sessionParam, walkRequest } from './wire.ts';

export interface AgentDeps {
  auth: AgentAuth;
  inventory: Inventory;
  sessions: ProofSessions;
  workDir: string;
}

/** The service of `workflows/domain/protocol/agent.ts`, and `/status`, the host's inventory for its miner. */
export function agentRoutes({ auth, inventory, sessions, workDir }: AgentDeps): Router {
  const body = rawBody({ limitBytes: 2 * 2 ** 20, withinMs: 20_000 });
  return Router()
    .get('/ping', (_req, res) => void res.type('text/plain').send('pong'))
    .get('/health', (_req, res) => void res.json({ healthy: true }))
    .get('/devices', auth.miner('graval'), (_req, res) => void res.json({ devices: inventory.devices }))
    .get('/status', auth.miner('management'), async (_req, res) => {
      res.json({ ...(await hostStatus(inventory, workDir)), provers: sessions.provers });
    })
    .get('/info', auth.validator('graval'), (req, res) => {
      const { challenge } = parse(infoQuery, req.query, 'query');
      const device = inventory.devices[challengedIndex(challenge, inventory.devices.length)];
      if (!device) throw new Refusal('service.unavailable', 'no device answers');
      res.type('text/plain').send(deviceInfoAnswer(challenge, device));
    })
    .post('/povw/commit', body, auth.validator(), async (_req, res) => {
      const { session, challenges } = parse(commitRequest, jsonBodyOf(res));
      res.json(await sessions.commit(session, challenges satisfies PovwChallenge[]));
    })
    .post('/povw/walk', body, auth.validator(), async (_req, res) => {
      const { session, nonce2 } = parse(walkRequest, jsonBodyOf(res));
      res.json(await sessions.walk(session, nonce2));
    })
    .post('/povw/open', body, auth.validator(), async (_req, res) => {
      const { session, gpu_uuid, samples } = parse(openRequest, jsonBodyOf(res));
      const { buffer, byteOffset, length } = await sessions.open(session, gpu_uuid, samples);
      res.type('application/octet-stream').send(Buffer.from(buffer, byteOffset, length));
    })
    .delete('/povw/:session', auth.validator('graval'), async (req, res) => {
      await sessions.close(parse(sessionParam, req.params, 'path').session);
      res.status(204).end();
    });
}

async function hostStatus({ devices, simulated }: Inventory, workDir: string): Promise<Record<string, unknown>> {
  const disk = await statfs(workDir);
  return {
    hostname: hostname(),
    cpus: availableParallelism(),
    memoryGb: Math.floor(totalmem() / 2 ** 30),
    diskGb: Math.floor((disk.bavail * disk.bsize) / 2 ** 30),
    gpus: devices,
    simulated,
  };
}
