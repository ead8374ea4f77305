import type { Knex } from 'knex';

/** Users, their keys, what they may spend; the metagraph's members; replay memory for body-signed requests. */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table users (
      user_id uuid primary key,
      username text not null,
      hotkey text not null unique,
      coldkey text not null,
      payment_address text not null unique,
      payment_secret_sealed bytea not null,
      fingerprint_hash text not null unique,
      permissions_bitmask integer not null default 0,
      logo_id uuid,
      created_at timestamptz not null default now()
    );
    create unique index users_username_lower on users (lower(username));

    create table api_keys (
      api_key_id uuid primary key,
      user_id uuid not null references users on delete cascade,
      name text not null,
      admin boolean not null,
      secret_hmac bytea not null,
      scopes jsonb not null default '[]',
      created_at timestamptz not null default now(),
      last_used_at timestamptz,
      unique (user_id, name)
    );

    create table quotas (
      user_id uuid not null references users on delete cascade,
      chute_id text not null,
      quota integer not null check (quota >= 0),
      updated_at timestamptz not null default now(),
      primary key (user_id, chute_id)
    );

    create table ledger (
      entry_id uuid primary key,
      user_id uuid not null references users on delete restrict,
      amount_micro_usd bigint not null,
      reason text not null,
      reference text not null,
      created_at timestamptz not null default now(),
      unique (reason, reference)
    );
    create index ledger_user on ledger (user_id, created_at);

    create table metagraph_nodes (
      netuid integer not null,
      hotkey text not null,
      coldkey text not null,
      uid integer not null,
      stake_rao numeric(39, 0) not null,
      host text,
      port integer,
      blacklist_reason text,
      synced_at timestamptz not null,
      primary key (netuid, hotkey)
    );

    create unlogged table seen_signatures (
      signature bytea primary key,
      expires_at timestamptz not null
    );
    create index seen_signatures_expiry on seen_signatures (expires_at);

    create table signup_attempts (
      ip text not null,
      attempted_at timestamptz not null default now()
    );
    create index signup_attempts_ip on signup_attempts (ip, attempted_at);
  `);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table signup_attempts, seen_signatures, metagraph_nodes, ledger, quotas, api_keys, users');
}
