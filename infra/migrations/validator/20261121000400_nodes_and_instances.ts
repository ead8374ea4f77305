import type { Knex } from 'knex';

/** GPUs, permissions to launch, instances, and the record of why each instance ended. */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(`
    create table nodes (
      uuid text primary key,
      miner_hotkey text not null,
      server_id text,
      server_name text,
      task_id text not null,
      name text not null,
      memory bigint not null,
      major integer,
      minor integer,
      processors integer,
      sxm boolean,
      clock_rate double precision not null,
      max_threads_per_processor integer,
      concurrent_kernels boolean,
      ecc boolean,
      device_index integer not null,
      gpu_identifier text not null,
      verification_host text not null,
      verification_port integer not null,
      seed bigint not null,
      status text not null default 'announced',
      trust_level text not null default 'none',
      verified_at timestamptz,
      verification_error text,
      proof_summary jsonb,
      created_at timestamptz not null default now()
    );
    create index nodes_miner on nodes (miner_hotkey);
    create index nodes_task on nodes (task_id);

    create table node_history (
      uuid text not null,
      miner_hotkey text not null,
      registered_at timestamptz not null default now(),
      removed_at timestamptz,
      removal_code text
    );
    create index node_history_uuid on node_history (uuid, registered_at);

    create table launch_configs (
      config_id uuid primary key,
      instance_id uuid not null unique,
      chute_id uuid not null,
      chute_version uuid not null,
      miner_hotkey text not null,
      miner_coldkey text not null,
      miner_uid integer not null,
      env_key text not null,
      ephemeral_key_sealed bytea not null,
      ephemeral_public_key text not null,
      seed bigint,
      created_at timestamptz not null default now(),
      expires_at timestamptz not null,
      retrieved_at timestamptz,
      verified_at timestamptz,
      failed_at timestamptz,
      failure_code text
    );
    create index launch_configs_chute on launch_configs (chute_id);

    create table instances (
      instance_id uuid primary key,
      config_id uuid not null unique references launch_configs,
      chute_id uuid not null references chutes on delete cascade,
      version uuid not null,
      miner_hotkey text not null,
      miner_coldkey text not null,
      miner_uid integer not null,
      host text not null,
      port integer not null,
      port_mappings jsonb not null,
      transport text not null,
      tls_cert_pem text,
      tls_cert_sha256 text,
      transport_public_key text,
      session_secret_sealed bytea,
      trust_level text not null default 'none',
      proof_summary jsonb,
      region text not null default 'n/a',
      gpu_count integer not null,
      gpu_model_name text not null,
      hourly_rate_micro_usd bigint not null,
      compute_multiplier double precision not null,
      chutes_version text not null,
      active boolean not null default false,
      verified boolean not null default false,
      disabled_at timestamptz,
      draining_at timestamptz,
      consecutive_failures integer not null default 0,
      last_queried_at timestamptz,
      last_verified_at timestamptz,
      verification_error text,
      activated_at timestamptz,
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(),
      unique (host, port)
    );
    create index instances_chute on instances (chute_id);
    create index instances_miner on instances (miner_hotkey);

    create table instance_nodes (
      node_uuid text primary key references nodes,
      instance_id uuid not null references instances on delete cascade
    );
    create index instance_nodes_instance on instance_nodes (instance_id);

    create table instance_audit (
      instance_id uuid primary key,
      config_id uuid not null,
      chute_id uuid not null,
      version uuid not null,
      miner_hotkey text not null,
      miner_coldkey text not null,
      miner_uid integer not null,
      gpu_count integer not null,
      gpu_uuids jsonb not null default '[]',
      compute_multiplier double precision not null,
      trust_level text not null,
      permitted_at timestamptz not null,
      claimed_at timestamptz,
      verified_at timestamptz,
      activated_at timestamptz,
      deleted_at timestamptz,
      removal_code text,
      deletion_reason text,
      evidence jsonb
    );
    create index instance_audit_chute on instance_audit (chute_id, deleted_at);
  `);
}

export async function down(knex: Knex): Promise<void> {
  await knex.raw('drop table instance_audit, instance_nodes, instances, launch_configs, node_history, nodes');
}
