import type { Knex } from 'knex';

/** Chutes: the desired state that `chute/<chute_id>` works towards. */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table chutes (
      chute_id uuid primary key,
      user_id uuid not null references users on delete restrict,
      image_id uuid not null references images on delete restrict,
      name text not null,
      slug text not null unique,
      version uuid not null,
      public boolean not null,
      code text not null,
      filename text not null,
      ref_str text not null,
      standard_template text,
      tagline text not null default '',
      readme text not null default '',
      tool_description text,
      logo_id uuid,
      node_selector jsonb not null,
      cords jsonb not null default '[]',
      jobs jsonb not null default '[]',
      concurrency integer not null default 1 check (concurrency between 1 and 256),
      revision text,
      max_instances integer,
      scaling_threshold double precision,
      shutdown_after_seconds integer,
      allow_external_egress boolean not null default false,
      minimum_trust_level text not null default 'none',
      chutes_version text not null,
      discount numeric(6, 4) not null default 0 check (discount > -3 and discount <= 1),
      target_count integer not null default 1 check (target_count >= 0),
      disabled boolean not null default false,
      invocation_count bigint not null default 0,
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now()
    );
    create unique index chutes_user_name on chutes (user_id, lower(name));
    create index chutes_image on chutes (image_id);

    create table chute_shares (
      chute_id uuid not null references chutes on delete cascade,
      user_id uuid not null references users on delete cascade,
      created_at timestamptz not null default now(),
      primary key (chute_id, user_id)
    );
    create index chute_shares_user on chute_shares (user_id);

    create table chute_operations (
      user_id uuid not null,
      chute_id uuid not null,
      operation text not null,
      created_at timestamptz not null default now()
    );
    create index chute_operations_user on chute_operations (user_id, created_at);

    create table rolling_updates (
      chute_id uuid primary key references chutes on delete cascade,
      old_version uuid not null,
      new_version uuid not null,
      permitted jsonb not null default '{}',
      started_at timestamptz not null default now()
    );
  `);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table rolling_updates, chute_operations, chute_shares, chutes');
}
