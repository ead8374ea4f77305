import type { Knex } from 'knex';

/** Names of which one broke in a window in which the other held, until both hold in one. */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table sweep_pairs (
      broke text not null,
      beside text not null,
      -- GPUs that each had in such a window, at most
      broke_gpus integer not null,
      beside_gpus integer not null,
      times integer not null,
      first_at timestamptz not null default now(),
      last_at timestamptz not null default now(),
      last_sweep_id text not null,
      primary key (broke, beside)
    );
    create index sweep_pairs_beside on sweep_pairs (beside);
  `);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table sweep_pairs');
}
