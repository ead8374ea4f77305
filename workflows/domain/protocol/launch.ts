/**
 * The launch conversation of an instance as the open runtime speaks it (spec/validator-api.md §2.6.1–2.6.4, and
 * spec/sdk-and-runtime.md §5.7 for the proof steps). `{u}` is the `url` claim of the launch JWT; every call carries
 * `Authorization: <launch JWT>`. Fields outside `canopy` are the reference's wire.
 *
 *   1 POST {u}              LaunchClaim        → ClaimAnswer            starts the proof clock
 *   2 POST {u}/povw/commit  PovwCommit         → PovwCommitAnswer       (unless the plug-in is `none`, as 3 and 4)
 *   3 POST {u}/povw/walk    PovwWalk           → PovwWalkAnswer
 *   4 PUT  {u}/povw/openings/{gpu uuid}        → {"sha256": 64 hex}     body: the GPU's openings, binary; one request a GPU
 *   5 PUT  {u}              LaunchProof        → VerifyAnswer           secret sealed to the instance's transport key
 *   6 GET  {u}/activate                        → {"ok":true}            423 or 410: give up at once
 */
import type { FillSampleIndex, PovwChallenge, WalkSampleIndex } from '../proof/messages.ts';

/** Claims of the launch JWT (HS256; key = hex SHA-256 of CANOPY_LAUNCH_KEY, spec §2.6.1, §7.1). */
export interface LaunchClaims {
  sub: string; // config_id
  iss: 'chutes';
  iat: number;
  exp: number;
  url: string;
  env_key: string;
  chute_id: string;
  egress: boolean;
  lock_modules: boolean;
  env_type: 'graval';
  disk_gb?: number;
  job_id?: string;
}

/** One GPU as the wire describes it; 32 lower-case hex uuid, memory in bytes, clock in kHz (spec §2.5). */
export interface DeviceInfo {
  uuid: string;
  name: string;
  memory: number;
  major?: number | null;
  minor?: number | null;
  processors?: number | null;
  sxm?: boolean | null;
  clock_rate: number;
  max_threads_per_processor?: number | null;
  concurrent_kernels?: boolean | null;
  ecc?: boolean | null;
}

export interface PortMapping {
  proto: string;
  internal_port: number;
  external_port: number;
  default?: boolean;
}

export interface LaunchClaim {
  gpus: DeviceInfo[];
  host: string;
  port_mappings: PortMapping[];
  env: string;
  code: string;
  fsv?: string;
  canopy?: {
    transport: 'canopy/1';
    /** self-signed leaf, PEM; pinned by the SHA-256 of its DER */
    tls_cert: string;
    /** X25519 public key, 64 hex */
    transport_pubkey: string;
    runtime_version: string;
  };
}

export interface ClaimAnswer {
  seed: bigint | number;
  iterations: number;
  job_id: string | null;
  symmetric_key: { ciphertext: string; uuid: string; response_plaintext: string };
  canopy: {
    transport: 'canopy/1';
    /** X25519 ephemeral public key of the validator, 64 hex */
    validator_pubkey: string;
    proof: { plugin: 'none' } | { plugin: 'simulated' | 'povw'; challenges: PovwChallenge[]; deadline_ms: number };
  };
}

export interface PovwCommit {
  roots: Record<string, string>;
}
export interface PovwCommitAnswer {
  nonce2: string;
}
export interface PovwWalk {
  walks: Record<string, { digest: string; trace_root: string }>;
}
export interface PovwWalkAnswer {
  samples: Record<string, { fill: FillSampleIndex[]; walk: WalkSampleIndex[] }>;
}

export interface LaunchProof {
  response?: string;
  iv?: string;
  proof?: Record<string, unknown>;
  /** by GPU uuid, SHA-256 (64 hex) of the openings that were put before */
  canopy?: { openings: Record<string, string> };
}

export interface VerifyAnswer {
  chute_id: string;
  instance_id: string;
  verified_at: string;
  activation_url: string;
  code: string;
  fs_key: string;
  efs: boolean;
  secrets: Record<string, string>;
  job_id: string | null;
  job_method: string | null;
  job_data: unknown;
  job_status_url: string | null;
  canopy: {
    /** base64 of nonce(12) ‖ ChaCha20-Poly1305(K, session secret as UTF-8); K as in `sessionKeyInfo` */
    sealed_secret: string;
    /** what the runtime needs to serve: the child's command comes from the image, these from the chute */
    concurrency: number;
    filename: string;
    ref_str: string;
    trust_level: string;
  };
}

/**
 * K = HKDF-SHA256(ikm = X25519, salt = nonce2 of the proof (empty when the plug-in is `none`), info = this, 32 bytes):
 * opening needs the instance's private key and the answers of the proof (spec/sdk-and-runtime.md §5.7 d, variant A).
 * Roots and digests are concatenated in ascending order of the gpu uuid.
 */
export function sessionKeyInfo(proofs: readonly { gpuUuid: string; root: string; digest: string }[]): string {
  const ordered = [...proofs].sort((a, b) => (a.gpuUuid < b.gpuUuid ? -1 : 1));
  return `povw-key/1${ordered.map((proof) => proof.root).join('')}${ordered.map((proof) => proof.digest).join('')}`;
}
