import type { Knex } from 'knex';

/** Images and their build logs. `artifact` is `ImageArtifact` of workflows/domain/protocol. */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table images (
      image_id uuid primary key,
      user_id uuid not null references users on delete restrict,
      name text not null,
      tag text not null,
      readme text not null default '',
      logo_id uuid,
      public boolean not null,
      status text not null,
      patch_version text not null default 'initial',
      chutes_version text not null,
      context_key text not null,
      context_sha256 text not null,
      dockerfile_key text not null,
      dockerfile_sha256 text not null,
      log_key text,
      artifact jsonb,
      created_at timestamptz not null default now(),
      build_started_at timestamptz,
      build_completed_at timestamptz,
      unique (user_id, name, tag)
    );

    create table image_operations (
      user_id uuid not null,
      image_id uuid not null,
      operation text not null,
      created_at timestamptz not null default now()
    );
    create index image_operations_user on image_operations (user_id, created_at);

    create table image_build_log (
      image_id uuid not null references images on delete cascade,
      seq bigint not null,
      at_ms bigint not null,
      log_type text not null,
      log text not null,
      primary key (image_id, seq)
    );
  `);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table image_build_log, image_operations, images');
}
