import { expect, test } from '@jest/globals';
import {
  MINER_EVENT_REASONS,
  reactTo,
  type DeploymentView,
  type MinerEvent,
  type PolicyView,
  type Reaction,
} from './react-to.ts';

const own = (over: Partial<DeploymentView> = {}): DeploymentView => ({
  deploymentId: 'd1',
  chuteId: 'c1',
  version: 'v1',
  serverId: 's1',
  configId: 'k1',
  instanceId: 'i1',
  jobId: null,
  isTerminating: false,
  ...over,
});
const view = (...deployments: DeploymentView[]): PolicyView => ({ hotkey: 'me', chuteVersion: 'v1', deployments });
const instance = { chute_id: 'c1', miner_hotkey: 'me', instance_id: 'i1', config_id: 'k1' };
const created = { chute_id: 'c1', version: 'v1', job_only: false };
const rolling = {
  chute_id: 'c1',
  instance_id: 'i1',
  miner_hotkey: 'me',
  old_version: 'v1',
  new_version: 'v2',
  reason: '',
};
const job = {
  job_id: 'j1',
  method: 'm',
  chute_id: 'c1',
  image_id: 'x',
  gpu_count: 1,
  compute_multiplier: 1,
  exclude: [],
  excluded: [],
  disk_gb: 10,
};

const importV1: Reaction = { kind: 'import_chute', chuteId: 'c1', version: 'v1' };
const importV2: Reaction = { kind: 'import_chute', chuteId: 'c1', version: 'v2' };
const fact = (kind: 'bound' | 'verified' | 'activated'): Reaction => ({
  kind: 'instance_fact',
  deploymentId: 'd1',
  fact: kind,
  instanceId: 'i1',
});
const stop = (code: 'chute_deleted' | 'instance_deleted' | 'job_deleted', deploymentId = 'd1'): Reaction => ({
  kind: 'stop',
  deploymentId,
  code,
});

const table: [string, MinerEvent, PolicyView, Reaction[] | 'ignored'][] = [
  [
    'own GPU',
    { reason: 'gpu_verified', data: { gpu_id: 'g1', miner_hotkey: 'me' } },
    view(),
    [{ kind: 'mark_gpu_verified', gpuId: 'g1' }],
  ],
  ["another's GPU", { reason: 'gpu_verified', data: { gpu_id: 'g1', miner_hotkey: 'you' } }, view(), 'ignored'],
  [
    'new chute',
    { reason: 'chute_created', data: created },
    view(),
    [importV1, { kind: 'start', chuteId: 'c1', version: 'v1', onlyServerId: null }],
  ],
  ['new chute that runs here', { reason: 'chute_created', data: created }, view(own()), [importV1]],
  [
    'new chute whose old deployment is on its way out',
    { reason: 'chute_created', data: created },
    view(own({ isTerminating: true })),
    [importV1, { kind: 'start', chuteId: 'c1', version: 'v1', onlyServerId: null }],
  ],
  ['new chute for jobs only', { reason: 'chute_created', data: { ...created, job_only: true } }, view(), [importV1]],
  ['changed chute', { reason: 'chute_updated', data: { ...created, version: 'v2' } }, view(own()), [importV2]],
  [
    'deleted chute: that version only',
    { reason: 'chute_deleted', data: { chute_id: 'c1', version: 'v1' } },
    view(own(), own({ deploymentId: 'd2', version: 'v2' })),
    [stop('chute_deleted'), { kind: 'forget_chute', chuteId: 'c1', version: 'v1' }],
  ],
  [
    'bounty',
    { reason: 'bounty_change', data: { chute_id: 'c1', bounty: 5 } },
    view(),
    [{ kind: 'start', chuteId: 'c1', version: null, onlyServerId: null }],
  ],
  [
    'bounty for what runs here',
    { reason: 'bounty_change', data: { chute_id: 'c1', bounty: 5 } },
    view(own()),
    'ignored',
  ],
  [
    'bounty for an unknown chute',
    { reason: 'bounty_change', data: { chute_id: 'c1', bounty: 5 } },
    { ...view(), chuteVersion: null },
    'ignored',
  ],
  ['image built', { reason: 'image_created', data: { image_id: 'x' } }, view(), 'ignored'],
  ['image deleted', { reason: 'image_deleted', data: { image_id: 'x' } }, view(), 'ignored'],
  [
    'image patched',
    {
      reason: 'image_updated',
      data: {
        image_id: 'x',
        short_tag: 't',
        patch_version: 'p',
        chutes_version: '0.6.9',
        chute_ids: ['c1'],
        image: 'u/n:t',
      },
    },
    view(),
    [{ kind: 'import_images' }],
  ],
  [
    'own instance',
    { reason: 'instance_created', data: { ...instance, gpu_count: 1, gpu_model_name: 'h' } },
    view(own({ instanceId: null })),
    [fact('bound')],
  ],
  [
    "another's instance",
    { reason: 'instance_created', data: { ...instance, miner_hotkey: 'you', gpu_count: 1, gpu_model_name: 'h' } },
    view(own({ instanceId: null })),
    'ignored',
  ],
  [
    'verified',
    { reason: 'instance_verified', data: { instance_id: 'i1', miner_hotkey: 'me' } },
    view(own()),
    [fact('verified')],
  ],
  [
    "another's verified",
    { reason: 'instance_verified', data: { instance_id: 'i1', miner_hotkey: 'you' } },
    view(own()),
    'ignored',
  ],
  [
    'activated, found by its config',
    { reason: 'instance_activated', data: instance },
    view(own({ instanceId: null })),
    [fact('activated')],
  ],
  ['activated, of no row', { reason: 'instance_activated', data: instance }, view(), 'ignored'],
  ['instance gone', { reason: 'instance_deleted', data: instance }, view(own()), [stop('instance_deleted')]],
  [
    'instance gone, on its way out already',
    { reason: 'instance_deleted', data: instance },
    view(own({ isTerminating: true })),
    'ignored',
  ],
  [
    "another's instance gone",
    { reason: 'instance_deleted', data: { ...instance, miner_hotkey: 'you' } },
    view(own()),
    'ignored',
  ],
  [
    'rolling update',
    { reason: 'rolling_update', data: rolling },
    view(own()),
    [
      importV2,
      { kind: 'replace', deploymentId: 'd1', code: 'rolling_update', chuteId: 'c1', version: 'v2', onlyServerId: 's1' },
    ],
  ],
  [
    'rolling update of what is new already',
    { reason: 'rolling_update', data: rolling },
    view(own({ version: 'v2' })),
    [importV2],
  ],
  [
    'rolling update does not touch jobs',
    { reason: 'rolling_update', data: rolling },
    view(own({ jobId: 'j1' })),
    [importV2],
  ],
  [
    "another's rolling update",
    { reason: 'rolling_update', data: { ...rolling, miner_hotkey: 'you' } },
    view(own()),
    'ignored',
  ],
  ['job', { reason: 'job_created', data: job }, view(), 'ignored'],
  ['job that excludes us', { reason: 'job_created', data: { ...job, excluded: ['me'] } }, view(), 'ignored'],
  [
    'job deleted',
    { reason: 'job_deleted', data: { instance_id: 'i1', job_id: 'j1' } },
    view(own({ jobId: 'j1' })),
    [stop('job_deleted')],
  ],
  [
    'job deleted elsewhere',
    { reason: 'job_deleted', data: { instance_id: 'i1', job_id: 'j1' } },
    view(own()),
    'ignored',
  ],
];

test.each(table)('%s', (_, event, given, expected) => {
  const before = structuredClone(given);
  const reactions = reactTo(event, given);
  if (expected === 'ignored') expect(reactions).toEqual([{ kind: 'ignore', reason: expect.any(String) }]);
  else expect(reactions).toEqual(expected);
  expect(given).toEqual(before);
});

test('the table has every reason of the wire', () => {
  expect([...new Set(table.map(([, event]) => event.reason))].sort()).toEqual([...MINER_EVENT_REASONS].sort());
});
