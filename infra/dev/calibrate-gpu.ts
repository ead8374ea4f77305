import { spawn } from 'node:child_process';
import { access, readFile, rename, writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { createGravalClient } from '../../activities/clients/graval.ts';
import {
  parseProfileTable,
  PROFILES_FILE,
  type ProfileRowWire,
} from '../../activities/validator/proof/profile-table.ts';
import { GPU_TYPES, gpuType, gpuTypeOfName } from '../../workflows/domain/gpus/gpu-table.ts';
import { buildGpu } from './build-gpu.ts';
import { renderProfileTable } from './write-povw-profiles.ts';

/**
 * `npm run calibrate:gpu -- --type h100_sxm [--device 0]` on a machine with such a card: builds `graval` with CUDA, proves once
 * with all the memory the type sells, and puts the measured row into gpu/profiles.json. About two minutes with a cold build.
 */
export interface CalibrateGpu {
  /** ref of the GPU table */
  type: string;
  device: number;
  /** path of a `graval` with CUDA; only asked for once the type is known */
  graval: () => Promise<string>;
  file?: string;
}

/** The row that was written. Throws a text for the operator; the file is then as it was. */
export async function calibrateGpu({
  type: ref,
  device: index,
  graval,
  file = PROFILES_FILE,
}: CalibrateGpu): Promise<ProfileRowWire> {
  const type = gpuType(ref);
  if (!type) throw new Error(`${ref} is no GPU type; one of: ${GPU_TYPES.map((each) => each.ref).join(' ')}`);
  const rows = await readRows(file);
  const binary = await graval();
  const { devices } = await createGravalClient({ binary }).info();
  if (devices.length === 0) throw new Error(NO_GPU);
  const device = devices.find((each) => each.index === index);
  if (!device) throw new Error(`there is no device ${index}, only ${devices.map((each) => each.index).join(', ')}`);
  if (gpuTypeOfName(device.name)?.ref !== type.ref)
    throw new Error(`device ${index} is a ${device.name}, and that is not sold as ${type.ref}`);
  const options = `--type ${type.ref} --device ${index} --vram-bytes ${type.memoryGb * 1e9}`;
  const text = await stdoutOf(binary, ['bench', '--calibrate', ...options.split(' ')]);
  const row = JSON.parse(text) as ProfileRowWire; // parseProfileTable looks at every field
  if (row.gpu !== type.ref) throw new Error(`graval bench answered with a row for ${row.gpu}`);
  const table = withRow(rows, row);
  parseProfileTable({ rows: table }, file);
  await writeFile(`${file}.partial`, renderProfileTable(table));
  await rename(`${file}.partial`, file);
  return row;
}

const NO_GPU =
  'No NVIDIA GPU here (no driver, or no device): a row of gpu/profiles.json is measured on a card of its type. Nothing was changed.';

/** In the order of the GPU table. */
function withRow(rows: readonly ProfileRowWire[], row: ProfileRowWire): ProfileRowWire[] {
  const others = rows.filter(({ gpu }) => gpu !== row.gpu);
  const place = ({ gpu }: ProfileRowWire): number => GPU_TYPES.findIndex(({ ref }) => ref === gpu);
  return [...others, row].toSorted((a, b) => place(a) - place(b));
}

async function readRows(file: string): Promise<ProfileRowWire[]> {
  try {
    const given = JSON.parse(await readFile(file, 'utf8')) as { rows: ProfileRowWire[] };
    parseProfileTable(given, file);
    return given.rows;
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw err;
  }
}

/** stdout of a `graval` that succeeds; what it says on stderr is the operator's to read. */
export function stdoutOf(program: string, args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => void (text += chunk));
    child.on('error', reject);
    child.on('close', (code, signal) =>
      code === 0
        ? resolve(text.trim())
        : reject(new Error(`graval ${args.join(' ')} ended with ${signal ?? code}. ${text}`)),
    );
  });
}

/** Linux's driver, or Windows' one under it: without either the long build with CUDA would be for nothing. */
const hasDriver = async (): Promise<boolean> => {
  const found = await Promise.allSettled(['/dev/nvidiactl', '/dev/dxg'].map((path) => access(path)));
  return found.some(({ status }) => status === 'fulfilled');
};

if (import.meta.main) {
  const report = (message: string) => void process.stderr.write(`${message}\n`);
  const { type, device } = new Command('npm run calibrate:gpu --')
    .description('Measures a card and writes its row of gpu/profiles.json.')
    .requiredOption('--type <ref>', 'GPU type the card is sold as, e.g. h100_sxm')
    .option('--device <index>', 'which GPU of this machine', '0')
    .parse()
    .opts<{ type: string; device: string }>();
  const graval = async (): Promise<string> => {
    if (!(await hasDriver())) throw new Error(NO_GPU);
    return buildGpu({ cuda: true, report });
  };
  await calibrateGpu({ type, device: Number(device), graval }).then(
    (row) => process.stdout.write(`${JSON.stringify(row, null, 1)}\n`),
    (err: unknown) => {
      report((err as Error).message);
      process.exitCode = 1;
    },
  );
}
