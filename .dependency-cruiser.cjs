/** The import boundaries of ARCHITECTURE.md. Programs trust each other only on the wire. */
const VALIDATOR =
  '^(workflows/validator(/|\\.ts$)|activities/validator/|api/(validator|gateway|sockets)/|workers/(validator|forge|gpu|chain)-worker\\.ts|workers/config/validator\\.ts)';
const MINER =
  '^(workflows/miner(/|\\.ts$)|activities/miner/|api/miner/|workers/miner-worker\\.ts|workers/config/miner\\.ts)';
const AUDITOR = '^(workflows/auditor(/|\\.ts$)|activities/auditor/|api/auditor/|workers/auditor-worker\\.ts)';
const EDGE_PROGRAMS = '^api/(agent|instance)/';
const TESTS = '\\.test\\.ts$';

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, dependencyTypesNot: ['type-only'] } },
    {
      name: 'domain-imports-only-itself',
      severity: 'error',
      comment: 'rules are pure: no clock, I/O, Temporal or Node modules',
      from: { path: '^workflows/domain/', pathNot: TESTS },
      to: { pathNot: '^(workflows/domain/|node_modules/@noble/)' },
    },
    {
      name: 'workflows-stay-in-the-sandbox',
      severity: 'error',
      comment: 'Temporal, files of workflows/, and types of activities',
      from: { path: '^workflows/', pathNot: [TESTS, '^workflows/domain/'] },
      to: {
        pathNot: '^(workflows/|node_modules/@temporalio/(workflow|common)/|node_modules/@noble/)',
        dependencyTypesNot: ['type-only'],
      },
    },
    {
      name: 'activities-act',
      severity: 'error',
      comment: 'activities know domain rules and their own kind',
      from: { path: '^activities/', pathNot: TESTS },
      to: { path: '^(api|workers|infra|cli)/' },
    },
    {
      name: 'validator-imports-no-other-program',
      severity: 'error',
      from: { path: VALIDATOR, pathNot: TESTS },
      to: { path: [MINER, AUDITOR, EDGE_PROGRAMS] },
    },
    {
      name: 'miner-imports-no-other-program',
      severity: 'error',
      from: { path: MINER, pathNot: TESTS },
      to: { path: [VALIDATOR, AUDITOR, EDGE_PROGRAMS] },
    },
    {
      name: 'auditor-imports-no-other-program',
      severity: 'error',
      from: { path: AUDITOR, pathNot: TESTS },
      to: { path: [VALIDATOR, MINER, EDGE_PROGRAMS] },
    },
    {
      name: 'agent-and-runtime-stand-alone',
      severity: 'error',
      from: { path: EDGE_PROGRAMS, pathNot: TESTS },
      to: { path: [VALIDATOR, MINER, AUDITOR] },
    },
    {
      name: 'agent-is-not-the-runtime',
      severity: 'error',
      from: { path: '^api/agent/' },
      to: { path: '^api/instance/' },
    },
    { name: 'tests-are-not-imported', severity: 'error', from: { pathNot: TESTS }, to: { path: TESTS } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(node_modules|\\.canopy)/' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    parser: 'swc',
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default'] },
  },
};
