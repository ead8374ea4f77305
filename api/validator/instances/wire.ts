import { z } from 'zod';
import { certificateFingerprint } from '../../../activities/validator/instances/claim-instance.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { CANOPY_TRANSPORT, INSTANCE_PORT } from '../../../workflows/domain/protocol/canopy-transport.ts';
import type { ClaimInput } from '../../../workflows/validator/instances/messages.ts';
import { wireUuid } from '../../http/wire-types.ts';

/** Request shapes of spec/validator-api.md §2.6, with the `canopy` object of workflows/domain/protocol/launch.ts. */
const gpuUuid = () => z.string().regex(/^[0-9a-f]{32}$/, { error: 'must be 32 lower-case hex characters' });
const hex = (bytes: number) =>
  z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`), { error: `must be ${bytes} bytes of lower-case hex` });

const device = z.looseObject({
  uuid: gpuUuid(),
  name: z.string().max(256).default(''),
  memory: z.number().default(0),
  clock_rate: z.number().default(0),
});

/** Of one claim: what a server holds. */
const MAX_GPUS = 16;

const portMapping = z.object({
  proto: z.string().regex(/^(tcp|udp|http)$/i, { error: 'must be tcp, udp or http' }),
  internal_port: z.int().min(1).max(65_535),
  external_port: z.int().min(22).max(65_535),
  default: z.boolean().optional(),
});

export const launchQuery = z.object({
  chute_id: wireUuid(),
  job_id: z.string().optional(),
  server_id: z.string().optional(),
});

export const claimBody = z.looseObject({
  gpus: z.array(device).max(MAX_GPUS),
  host: z.string().min(1).max(255),
  port_mappings: z.array(portMapping).min(1).max(64),
  env: z.string().max(2_000_000).optional(),
  code: z.string().max(8_000_000).optional(),
  fsv: z.string().nullish(),
  canopy: z
    .object({
      transport: z.literal(CANOPY_TRANSPORT),
      tls_cert: z.string().max(16_384),
      transport_pubkey: hex(32),
      runtime_version: z.string().max(64),
    })
    .optional(),
});

/** The claim as the workflow takes it; `receivedAtMs` is the edge's. What is kept of a device is its identity. */
export function claimOf(body: z.output<typeof claimBody>, receivedAtMs: number): ClaimInput {
  if (!body.canopy) {
    throw new Refusal(
      'request.invalid',
      'this network serves the transport canopy/1: the claim has no `canopy` object, and the P1 and P3 envelopes of the reference are not offered yet',
    );
  }
  if (body.port_mappings[0]?.internal_port !== INSTANCE_PORT) {
    throw new Refusal(
      'request.invalid',
      `the first port mapping must be the service itself, internal port ${INSTANCE_PORT}`,
    );
  }
  assertCertificate(body.canopy.tls_cert);
  return {
    gpus: body.gpus.map(({ uuid, name, memory, clock_rate }) => ({ uuid, name, memory, clock_rate })),
    host: body.host,
    portMappings: body.port_mappings.map(({ default: isDefault, ...mapping }) => ({
      ...mapping,
      ...(isDefault === undefined ? {} : { default: isDefault }),
    })),
    transport: body.canopy.transport,
    tlsCertPem: body.canopy.tls_cert,
    transportPublicKey: body.canopy.transport_pubkey,
    receivedAtMs,
  };
}

function assertCertificate(pem: string): void {
  try {
    certificateFingerprint(pem);
  } catch (err) {
    throw new Refusal('request.invalid', 'canopy.tls_cert is not a PEM certificate', { cause: err });
  }
}

export const commitBody = z.object({ roots: z.record(gpuUuid(), hex(32)) });
export const walkBody = z.object({ walks: z.record(gpuUuid(), z.object({ digest: hex(32), trace_root: hex(32) })) });

/** Openings themselves come one GPU at a time and are the verifier's to judge (openings-routes.ts). */
export const proofBody = z.looseObject({
  canopy: z.looseObject({ openings: z.record(gpuUuid(), hex(32)).optional() }).optional(),
});
export const openingsPath = z.object({ configId: z.string(), gpuUuid: gpuUuid() });
export const openingsResponse = z.object({ sha256: hex(32) });

export const logsQuery = z.object({
  backfill: z
    .string()
    .regex(/^[0-9]{1,9}$/, { error: 'must be an integer' })
    .transform(Number)
    .default(100),
});
export const tokenQuery = z.object({ salt: z.string().max(256).optional() });

const portMappings = z.array(z.object({ internal_port: z.number(), external_port: z.number() }));

/** External port of an instance's log server, or null where none was mapped. */
export const logPortOf = (mappings: unknown, internalPort: number): number | null =>
  portMappings.safeParse(mappings).data?.find((mapping) => mapping.internal_port === internalPort)?.external_port ??
  null;
