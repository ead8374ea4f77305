/** Socket events (spec/validator-api.md §4): the envelope, and the data each reason carries. */
export const MINER_CHANNEL = 'miner_broadcast';
export const PUBLIC_CHANNEL = 'events';

export interface MinerEventData {
  gpu_verified: { gpu_id: string; miner_hotkey: string };
  chute_created: { chute_id: string; version: string; job_only: boolean };
  chute_updated: { chute_id: string; version: string; job_only: boolean };
  chute_deleted: { chute_id: string; version: string };
  bounty_change: { chute_id: string; bounty: number };
  image_created: { image_id: string };
  image_updated: {
    image_id: string;
    short_tag: string;
    patch_version: string;
    chutes_version: string;
    chute_ids: string[];
    image: string;
  };
  image_deleted: { image_id: string };
  instance_created: {
    chute_id: string;
    gpu_count: number;
    gpu_model_name: string;
    miner_hotkey: string;
    instance_id: string;
    config_id: string;
  };
  instance_verified: { instance_id: string; miner_hotkey: string };
  instance_activated: { chute_id: string; miner_hotkey: string; instance_id: string; config_id: string };
  instance_deleted: { chute_id: string; miner_hotkey: string; instance_id: string; config_id: string };
  rolling_update: {
    chute_id: string;
    instance_id: string;
    miner_hotkey: string;
    old_version: string;
    new_version: string;
    reason: string;
  };
  job_created: {
    job_id: string;
    method: string;
    chute_id: string;
    image_id: string;
    gpu_count: number;
    compute_multiplier: number;
    exclude: string[];
    excluded: string[];
    disk_gb: number;
  };
  job_deleted: { instance_id: string; job_id: string };
}
export type MinerEventReason = keyof MinerEventData;

export interface PublicEventData {
  instance_created: Omit<MinerEventData['instance_created'], 'config_id'>;
  instance_hot: { chute_id: string; miner_hotkey: string; instance_id: string };
  instance_activated: { chute_id: string; miner_hotkey: string; instance_id: string };
  instance_deleted: { chute_id: string; miner_hotkey: string; instance_id: string };
  instance_disabled: { chute_id: string; miner_hotkey: string; instance_id: string };
  bounty_change: { chute_id: string; bounty: number };
}
export type PublicEventReason = keyof PublicEventData;

/** What goes over the socket. `filter_recipients` (hotkeys) makes it a targeted message. */
export interface EventEnvelope<Reason extends string = string, Data = Record<string, unknown>> {
  reason: Reason;
  data: Data;
  message?: string;
  filter_recipients?: string[];
}
