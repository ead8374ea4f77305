import { connectDatabase } from '../../activities/clients/postgres.ts';
import { migrate, type Schema } from './migrate.ts';

const usage = 'usage: CANOPY_DATABASE_URL=postgres://… node infra/migrations/cli.ts validator|miner up\n';

/** The deploy step before any program starts: brings one database to its newest schema. Exit 2 on wrong use. */
async function main(): Promise<number> {
  const [schema, direction] = process.argv.slice(2);
  const url = process.env.CANOPY_DATABASE_URL;
  if (!isSchema(schema) || direction !== 'up' || !url) {
    process.stderr.write(usage);
    return 2;
  }
  const db = connectDatabase({ url, poolMax: 2, applicationName: 'migrations' });
  try {
    await migrate(db, schema);
    process.stdout.write(`${schema}: schema is current\n`);
    return 0;
  } finally {
    await db.destroy();
  }
}

const isSchema = (text: string | undefined): text is Schema => text === 'validator' || text === 'miner';

process.exitCode = await main();
