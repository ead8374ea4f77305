import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import yazl from 'yazl';

const REPOSITORY = join(import.meta.dirname, '..');
const ZIP_TIME = new Date('2000-01-01T00:00:00Z'); // equal contents are equal bytes

export interface PackedExample {
  /** the build context, as `POST /images/` takes it */
  contextZip: Buffer;
  dockerfile: string;
  /** body of `POST /chutes/`; `image` is `name:tag` of the caller's own image */
  chute: Record<string, unknown> & { name: string; image: string; code: string };
  /** the tag names the contents: what has not changed need not be built again */
  image: { name: string; tag: string; readme: string };
}

/**
 * What a user would send to publish an example: its folder zipped, with the texts of this repository as `corpus/` where
 * its Dockerfile asks for one. `dir` is the folder, e.g. `examples/text-generator`.
 */
export async function packExample(dir: string): Promise<PackedExample> {
  const dockerfile = await readFile(join(dir, 'Dockerfile'), 'utf8');
  const files = new Map<string, Buffer>();
  const entries = await readdir(dir, { withFileTypes: true });
  for (const entry of entries) {
    if (entry.isFile() && entry.name.endsWith('.py')) files.set(entry.name, await readFile(join(dir, entry.name)));
  }
  const corpus = /^COPY corpus /m.test(dockerfile) ? await repositoryTexts() : new Map<string, Buffer>();
  for (const [name, text] of corpus) files.set(`corpus/${name}`, text);
  const name = basename(dir);
  const tag = digest('sha256', new Map([...files, ['Dockerfile', Buffer.from(dockerfile)]])).slice(0, 12);
  const definition = JSON.parse(await readFile(join(dir, 'chute.json'), 'utf8')) as Record<string, unknown> & {
    name: string;
    filename: string;
  };
  const code = files.get(definition.filename)?.toString('utf8');
  if (code === undefined) throw new Error(`${dir}: chute.json names ${definition.filename}, which is not there`);
  // An LLM template must say which weights it serves (spec/validator-api.md §2.4.1): these come from the corpus.
  const revision = definition.standard_template === 'vllm' ? { revision: digest('sha1', files) } : {};
  return {
    contextZip: await zip(files),
    dockerfile,
    chute: { ...definition, ...revision, image: `${name}:${tag}`, code },
    image: { name, tag, readme: await readFile(join(dir, 'README.md'), 'utf8') },
  };
}

async function repositoryTexts(): Promise<Map<string, Buffer>> {
  const docs = (await readdir(join(REPOSITORY, 'docs')).catch(() => [])).filter((name) => name.endsWith('.md')).sort();
  const names = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', ...docs.map((name) => join('docs', name))];
  const texts = new Map<string, Buffer>();
  for (const name of names) {
    const text = await readFile(join(REPOSITORY, name)).catch(() => null);
    if (text) texts.set(name.replaceAll('/', '-'), text);
  }
  return texts;
}

function digest(algorithm: 'sha1' | 'sha256', files: ReadonlyMap<string, Buffer>): string {
  const hash = createHash(algorithm);
  for (const name of [...files.keys()].sort()) {
    const content = files.get(name) ?? Buffer.alloc(0);
    hash.update(`${name}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex');
}

async function zip(files: ReadonlyMap<string, Buffer>): Promise<Buffer> {
  const archive = new yazl.ZipFile();
  for (const name of [...files.keys()].sort())
    archive.addBuffer(files.get(name) ?? Buffer.alloc(0), name, { mtime: ZIP_TIME, mode: 0o100644 });
  archive.end();
  return buffer(archive.outputStream);
}
