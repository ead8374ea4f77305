import type { Knex } from 'knex';

/**
 * Invocations (partitioned by UTC day of `started_at`, loaded by `COPY`), free-quota counters, hourly exports, the
 * event outbox the socket servers tail, and notifications that keep the gateways' memory fresh.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table invocations (
      invocation_id uuid not null,
      parent_invocation_id uuid not null,
      user_id uuid not null,
      chute_id uuid not null,
      chute_user_id uuid not null,
      function_name text not null,
      image_id uuid not null,
      image_user_id uuid not null,
      instance_id uuid,
      miner_uid integer,
      miner_hotkey text,
      started_at timestamptz not null,
      completed_at timestamptz,
      error_message text,
      compute_multiplier double precision,
      bounty bigint not null default 0,
      metrics jsonb not null default '{}',
      free boolean not null default false,
      amount_micro_usd bigint not null default 0,
      primary key (invocation_id, started_at)
    ) partition by range (started_at);
    create index invocations_started on invocations (started_at);
    create index invocations_user on invocations (user_id, started_at);
    create table invocations_default partition of invocations default;

    create table quota_usage (
      user_id uuid not null,
      chute_id text not null,
      day date not null,
      used numeric(20, 4) not null default 0,
      primary key (user_id, chute_id, day)
    );

    create table exports (
      path text primary key,
      object_key text not null,
      sha256 text not null,
      size_bytes bigint not null,
      row_count bigint not null,
      created_at timestamptz not null default now()
    );

    create table events (
      seq bigint generated always as identity primary key,
      channel text not null,
      payload jsonb not null,
      created_at timestamptz not null default now()
    );

    create function notify_event() returns trigger language plpgsql as $$
      begin perform pg_notify('canopy_events', new.seq::text); return null; end $$;
    create trigger events_notify after insert on events for each row execute function notify_event();

    create function notify_routing() returns trigger language plpgsql as $$
      begin perform pg_notify('canopy_routing', tg_table_name); return null; end $$;
    create trigger chutes_routing after insert or update or delete on chutes for each statement execute function notify_routing();
    create trigger instances_routing after insert or delete or update of active, verified, disabled_at, draining_at, session_secret_sealed
      on instances for each statement execute function notify_routing();
    create trigger api_keys_routing after insert or update or delete on api_keys for each statement execute function notify_routing();
    create trigger users_routing after insert or update or delete on users for each statement execute function notify_routing();
    create trigger quotas_routing after insert or update or delete on quotas for each statement execute function notify_routing();
    create trigger shares_routing after insert or delete on chute_shares for each statement execute function notify_routing();
  `);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw(`
    drop trigger shares_routing on chute_shares; drop trigger quotas_routing on quotas; drop trigger users_routing on users;
    drop trigger api_keys_routing on api_keys; drop trigger instances_routing on instances; drop trigger chutes_routing on chutes;
    drop function notify_routing; drop table events; drop function notify_event;
    drop table exports, quota_usage, invocations;
  `);
}
