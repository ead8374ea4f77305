import type { Knex } from 'knex';

/** A miner's own view: servers, GPUs, what the validator offers, what runs where, and what ran (spec/miner.md §4). */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table servers (
      server_id uuid primary key,
      validator text not null,
      name text not null unique,
      ip_address text not null,
      verification_port integer not null,
      agent_url text not null,
      status text not null,
      gpu_count integer not null,
      gpu_short_ref text not null,
      cpu_per_gpu integer not null,
      memory_per_gpu integer not null,
      hourly_cost_micro_usd bigint not null,
      is_tee boolean not null default false,
      locked boolean not null default false,
      seed bigint,
      labels jsonb not null default '{}',
      created_at timestamptz not null default now()
    );

    create table chutes (
      chute_id uuid not null,
      validator text not null,
      version uuid not null,
      name text not null,
      definition jsonb not null,
      ban_reason text,
      updated_at timestamptz not null default now(),
      primary key (validator, chute_id)
    );

    create table deployments (
      deployment_id uuid primary key,
      validator text not null,
      chute_id uuid not null,
      version uuid not null,
      server_id uuid not null references servers on delete restrict,
      config_id uuid unique,
      launch_token_sealed bytea,
      instance_id uuid,
      job_id uuid,
      driver text not null,
      handle jsonb,
      host text,
      port integer,
      status text not null,
      stub boolean not null default true,
      active boolean not null default false,
      preemptible boolean not null default true,
      verified_at timestamptz,
      activated_at timestamptz,
      created_at timestamptz not null default now()
    );
    create index deployments_chute on deployments (validator, chute_id);
    create index deployments_server on deployments (server_id);

    create table gpus (
      gpu_id text primary key,
      server_id uuid not null references servers on delete cascade,
      validator text not null,
      device_index integer not null,
      device_info jsonb not null,
      model_short_ref text not null,
      verified boolean not null default false,
      deployment_id uuid references deployments on delete set null
    );
    create index gpus_server on gpus (server_id);
    create index gpus_deployment on gpus (deployment_id);

    create table deployment_audit (
      deployment_id uuid primary key,
      instance_id uuid,
      chute_id uuid not null,
      version uuid not null,
      server_id uuid not null,
      validator text not null,
      gpus jsonb not null,
      created_at timestamptz not null,
      activated_at timestamptz,
      verified_at timestamptz,
      deleted_at timestamptz,
      removal_code text
    );
  `);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table deployment_audit, gpus, deployments, chutes, servers');
}
