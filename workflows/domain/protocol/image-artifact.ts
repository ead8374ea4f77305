/**
 * What the forge leaves behind for a miner to run, by driver:
 * `oci`: an image in the registry under `{registry}/{username}/{name}:{tag}`, pulled by digest.
 * `archive`: a gzip tar in S3 (the `process` form: no container runtime), fetched through the validator with a signed
 * `GET /images/{image_id}/archive` (purpose `images` for owners, `registry` for miners); root of the tar = working dir.
 */
export type ImageArtifact =
  | {
      kind: 'oci';
      reference: string;
      digest: string;
      sizeBytes: number;
      command: string[];
      workingDir: string;
      env: Record<string, string>;
    }
  | {
      kind: 'archive';
      key: string;
      sha256: string;
      sizeBytes: number;
      command: string[];
      workingDir: string;
      env: Record<string, string>;
    };
