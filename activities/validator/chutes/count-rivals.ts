import type { Knex } from 'knex';
import { nodeSelectorOf } from '../../../workflows/domain/chutes/chute-definition.ts';
import { supportedGpus } from '../../../workflows/domain/gpus/node-selector.ts';

/**
 * How many other miners could take a launch of this chute now: registered, not blacklisted, with enough proven GPUs of a
 * supported type free. The last slots are kept for somebody else only where there is somebody else.
 */
export async function countRivals(
  db: Knex,
  { chuteId, hotkey, netuid }: { chuteId: string; hotkey: string; netuid: number },
): Promise<number> {
  const chute = await db('chutes').where({ chute_id: chuteId }).first('node_selector');
  if (!chute) return 0;
  const selector = nodeSelectorOf(chute.node_selector);
  const rivals = await db('nodes as n')
    .join('metagraph_nodes as m', (on) => void on.on('m.hotkey', 'n.miner_hotkey').andOnVal('m.netuid', netuid))
    .whereNull('m.blacklist_reason')
    .whereNot('n.miner_hotkey', hotkey)
    .whereNotNull('n.verified_at')
    .whereIn(
      'n.gpu_identifier',
      supportedGpus(selector).map((type) => type.ref),
    )
    .whereNotExists(db('instance_nodes as b').whereRaw('b.node_uuid = n.uuid'))
    .groupBy('n.miner_hotkey')
    .havingRaw('count(*) >= ?', [selector.gpuCount])
    .select('n.miner_hotkey');
  return rivals.length;
}
