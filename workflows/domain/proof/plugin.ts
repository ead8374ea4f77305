import type {
  FillSampleIndex,
  GpuVerdict,
  PovwBinding,
  PovwChallenge,
  TrustLevel,
  WalkSampleIndex,
} from './messages.ts';

/**
 * A verifier plug-in in four operations (spec/sdk-and-runtime.md §5.8): begin, two steps, finish; `probe` for what runs.
 * A session is plain data: the workflow that owns the launch or node keeps it between the steps, so a dead worker
 * loses nothing. What the prover must not know before its time (nonce 2, samples) is drawn by the step that reveals it.
 */
export type ProofPluginName = 'none' | 'simulated' | 'povw';

export interface ProofSession {
  plugin: ProofPluginName;
  challenges: PovwChallenge[];
  /** the whole conversation, from begin to the openings */
  deadlineMs: number;
  roots: Record<string, string> | null;
  nonce2: string | null;
  walks: Record<string, { digest: string; trace_root: string }> | null;
  samples: Record<string, { fill: FillSampleIndex[]; walk: WalkSampleIndex[] }> | null;
}

export interface ProvenGpu {
  uuid: string;
  gpuType: string;
  vramBytes: number;
}

export interface BeginProof {
  plugin: ProofPluginName;
  /** launch config id or verification task id */
  configId: string;
  minerHotkey: string;
  transportPublicKey: string;
  gpus: ProvenGpu[];
}

/** Where one GPU's proof file lies (docs/proof.md "Proof file"): whoever has it and the binding checks the proof again. */
export interface ProofFileRef {
  key: string;
  sha256: string;
  sizeBytes: number;
}
/** With what S is computed from. */
export interface ProofRecord extends ProofFileRef {
  binding: PovwBinding;
}

/** What is recorded with the instance or node and shown on every screen. */
export interface ProofSummary {
  trustLevel: TrustLevel;
  gpus: {
    gpuUuid: string;
    bytesFilled: number;
    samplesChecked: number;
    verified: boolean;
    reason: string | null;
    /** null when there was nothing to record: no openings came */
    record?: ProofRecord | null;
  }[];
  fillMs: number | null;
  walkMs: number | null;
}

export type RecordedVerdict = GpuVerdict & { record?: ProofFileRef | null };
export type ProofVerdict =
  | { verified: true; trustLevel: TrustLevel; verdicts: RecordedVerdict[] }
  | { verified: false; reason: string; verdicts: RecordedVerdict[] };

/** Queue `validator`: quick draws. `elapsedMs` is measured at the API edge, from the previous answer to this request. */
export interface ProofSessionActivities {
  beginProof: (input: BeginProof) => Promise<ProofSession>;
  /** refuses `proof.refused` when a root is missing, malformed or of a GPU not challenged, or the fill took too long */
  acceptCommit: (input: {
    session: ProofSession;
    roots: Record<string, string>;
    elapsedMs: number;
  }) => Promise<ProofSession>;
  acceptWalk: (input: {
    session: ProofSession;
    walks: Record<string, { digest: string; trace_root: string }>;
    elapsedMs: number;
  }) => Promise<ProofSession>;
}

/** By GPU uuid, where its openings lie as the prover sent them: docs/proof.md "Binary openings", at `openingsKey`. */
export type OpeningsRefs = Record<string, { key: string; sha256: string }>;

/** Of one conversation alone: bytes that two of them share would be dropped by the one while the other still looks at them. */
export const openingsKey = (configId: string, sha256: string): string => `proofs/${configId}/${sha256}`;

/** For any profile: 15 MB at 80 GB size with 128 samples each (docs/proof.md "Measurements"), and a little room. A GPU's own limit
 * is `openingsBytesAtMost` of its profile. */
export const MAX_OPENINGS_BYTES = 16 * 1024 ** 2;

/** Queue `gpu`. The caller has the verdict in its history by then, and its record has the bytes; what is gone already is no error. */
export interface OpeningsActivities {
  dropOpenings: (input: { keys: string[] }) => Promise<void>;
}

/** Queue `gpu`: recomputes the openings; heartbeats per GPU and resumes after the last one it finished. `verdicts` has every GPU,
 * also after one that is refused. A GPU without openings is refused with `openings_malformed`. */
export interface ProofVerificationActivities {
  verifyProof: (input: { session: ProofSession; openings: OpeningsRefs | null }) => Promise<ProofVerdict>;
}
