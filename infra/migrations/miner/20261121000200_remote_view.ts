import type { Knex } from 'knex';

/** What the validator said last, kept as rows so that no list travels through a history; and what evidence of absence
 * was collected when, so that nothing is deleted on a single look. */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table remote_instances (
      instance_id uuid primary key,
      validator text not null,
      config_id uuid,
      chute_id uuid not null,
      active boolean not null,
      verified boolean not null,
      first_seen_at timestamptz not null default now()
    );

    create table images (
      validator text not null,
      image_id uuid not null,
      reference text not null,
      artifact jsonb,
      updated_at timestamptz not null default now(),
      primary key (validator, image_id)
    );

    alter table deployments
      add column log_port integer,
      add column gpu_count integer not null default 1,
      add column removal_code text,
      add column missing_since timestamptz,
      add column missing_what text;
    create unique index deployments_port on deployments (port);
    create unique index deployments_log_port on deployments (log_port);

    alter table servers
      add column task_id text,
      add column last_seen_at timestamptz,
      add column failure text;
  `);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw(`
    drop table remote_instances, images;
    drop index deployments_port, deployments_log_port;
    alter table deployments drop column log_port, drop column gpu_count, drop column removal_code, drop column missing_since, drop column missing_what;
    alter table servers drop column task_id, drop column last_seen_at, drop column failure;
  `);
}
