import type { Knex } from 'knex';

/** In whose company a miner did not hold: it comes back only beside them. */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    alter table miner_sweeps
      -- hotkeys
      add column apart_from text[] not null default '{}',
      -- outlives the miner's last node: a new registration of the same card changes nothing
      add column apart_until timestamptz;
  `);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('alter table miner_sweeps drop column apart_from, drop column apart_until');
}
