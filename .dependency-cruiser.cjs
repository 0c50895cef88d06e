// Who may import whom, as an allow-list: a new arrow is a decision, made here. scripts/check/imports.ts
// also fails when fewer modules were seen than there are source files, since a tool that reads nothing
// finds no violation.

/** Room → rooms that it may import, besides itself. `docs/architecture.md` gives the reasons. */
const ARROWS = {
  contract: [],
  errors: ['contract'],
  runtime: ['errors'],
  policy: ['contract', 'errors'],
  disk: ['contract', 'errors', 'runtime'],
  filesystem: ['disk', 'contract', 'errors', 'runtime'],
  storage: ['contract', 'errors', 'runtime'],
  ssh: ['contract', 'errors', 'runtime'],
  vsphere: ['contract', 'errors', 'runtime'],
  nas: ['contract', 'errors', 'runtime'],
  notification: ['contract', 'errors', 'runtime'],
  database: ['contract', 'errors', 'runtime'],
  queue: ['contract', 'errors', 'runtime'],
  repository: ['storage', 'disk', 'contract', 'errors', 'runtime'],
  recall: ['repository', 'contract', 'errors', 'runtime'],
  source: ['vsphere', 'ssh', 'iscsi', 'disk', 'contract', 'errors', 'runtime'],
  iscsi: ['disk', 'contract', 'errors', 'runtime'],
  backup: ['source', 'disk', 'filesystem', 'repository', 'recall', 'contract', 'errors', 'runtime'],
  restore: ['source', 'disk', 'filesystem', 'repository', 'contract', 'errors', 'runtime'],
  'restore-tool': ['storage', 'repository', 'restore', 'disk', 'filesystem', 'contract', 'errors', 'runtime'],
  orchestration: ['contract', 'errors', 'runtime', 'policy', 'database', 'queue', 'notification'],
  http: ['contract', 'errors', 'runtime', 'database', 'queue', 'orchestration', 'nas'],
  cli: ['contract', 'errors', 'runtime'],
};

const allowed = Object.entries(ARROWS).map(([room, rooms]) => ({
  from: { path: `^server/${room}/` },
  to: { path: [`^server/${room}/`, ...rooms.map((other) => `^server/${other}/`)] },
}));

module.exports = {
  allowed: [
    ...allowed,
    { from: { path: '^server/app/' }, to: { path: '^server/' } },
    // Mails say what went wrong in the words of the window.
    { from: { path: '^server/notification/' }, to: { path: '^ui/i18n/codes\\.(de|ja)\\.json$' } },
    { from: { path: '^ui/' }, to: { path: ['^ui/', '^server/contract/'] } },
    { from: { path: '^(test|scripts)/' }, to: {} },
    { from: { path: '\\.test\\.ts$' }, to: { path: '^(server|test)/' } },
    { from: {}, to: { pathNot: '^(server|ui|test|scripts)/' } },
  ],
  allowedSeverity: 'error',
  forbidden: [
    {
      name: 'no-cycle',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'nothing-imports-tests',
      severity: 'error',
      comment: 'scripts/demo-run shows the product beside the lab host of the tests.',
      from: { path: '^(server|ui|scripts)/', pathNot: ['\\.test\\.ts$', '^scripts/demo-run/'] },
      to: { path: '(^test/|\\.test\\.ts$)' },
    },
    {
      name: 'rooms-are-entered-through-their-index',
      severity: 'error',
      comment: 'contract is the exception: it is types and tables, read file by file.',
      from: { path: '^server/([^/]+)/', pathNot: '\\.test\\.ts$' },
      to: {
        path: '^server/[^/]+/.+',
        pathNot: ['^server/$1/', '^server/contract/', '^server/[^/]+/index\\.ts$', '^server/[^/]+/testing/'],
      },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)(node_modules|dist)/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      extensions: ['.ts', '.js', '.vue', '.json'],
      conditionNames: ['import', 'node', 'default'],
      exportsFields: ['exports'],
    },
  },
};
