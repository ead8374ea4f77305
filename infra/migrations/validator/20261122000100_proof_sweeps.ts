import type { Knex } from 'knex';

/** When all idle GPUs of a miner are proven in one window, and which GPUs are in such a window now. */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    alter table nodes
      add column sweep_id text,
      -- a sweep that dies leaves its GPUs claimable again at this moment
      add column sweep_until timestamptz;
    create index nodes_sweep on nodes (sweep_id) where sweep_id is not null;

    create table miner_sweeps (
      miner_hotkey text primary key,
      -- drawn at random and told to nobody
      next_at timestamptz not null,
      last_at timestamptz,
      last_sweep_id text
    );
  `);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw(`
    drop table miner_sweeps;
    alter table nodes drop column sweep_id, drop column sweep_until;
  `);
}
