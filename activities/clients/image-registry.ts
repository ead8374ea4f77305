/** Management of an OCI registry that pushing does not need. */
export interface ImageRegistry {
  /** Idempotent. A registry that forbids deletion keeps the image until its own clean-up. */
  deleteManifest: (reference: string, digest: string) => Promise<void>;
}

/** `host:port`, plain HTTP where `insecure`. `reference` is `{host}/{path}:{tag}`. */
export function connectImageRegistry({ host, insecure }: { host: string; insecure: boolean }): ImageRegistry {
  return {
    async deleteManifest(reference, digest) {
      const path = reference.slice(host.length + 1, reference.lastIndexOf(':'));
      const answer = await fetch(`${insecure ? 'http' : 'https'}://${host}/v2/${path}/manifests/${digest}`, {
        method: 'DELETE',
        signal: AbortSignal.timeout(20_000),
      });
      await answer.body?.cancel();
      if (!answer.ok && ![404, 405].includes(answer.status))
        throw new Error(`registry answered ${answer.status} to a deletion`);
    },
  };
}
