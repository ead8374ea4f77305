import type { ImageArtifact } from '../../../workflows/domain/protocol/image-artifact.ts';
import type { BuildLogWriter } from './log-writer.ts';

export interface BuildLimits {
  /** bytes a build may write to disk, contexts and layers included */
  maxBytes: number;
  memoryMb: number;
  cpus: number;
  pids: number;
}

export interface BuildJob {
  /** unique to this attempt; names its cgroup and containers */
  buildId: string;
  imageId: string;
  username: string;
  name: string;
  tag: string;
  /** the unpacked context, and the whole of this attempt's files; removed afterwards */
  contextDir: string;
  dir: string;
  dockerfile: string;
  log: BuildLogWriter;
  /** aborted on cancel, deadline, or too much written */
  signal: AbortSignal;
}

export type BuildOutput =
  | { kind: 'oci'; artifact: Extract<ImageArtifact, { kind: 'oci' }> }
  | {
      kind: 'archive';
      file: string;
      sizeBytes: number;
      sha256: string;
      command: string[];
      workingDir: string;
      env: Record<string, string>;
    };

/** A way to build. Throws `BuildFailure` for what the user can mend; leaves no process, mount or container behind. */
export interface ImageBuilder {
  readonly form: 'buildah' | 'process';
  /** how builds are contained here, for the start-up log and every build log */
  readonly containment: string;
  /** folders outside of the attempt's own whose growth counts against `maxBytes` */
  readonly storageDirs: readonly string[];
  build: (job: BuildJob) => Promise<BuildOutput>;
  /** removes what a build left in shared storage; called after every attempt, however it ended */
  clean: (job: Pick<BuildJob, 'buildId'>) => Promise<void>;
}
