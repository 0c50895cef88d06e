import { randomBytes } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeQpkg } from '../../scripts/package/qpkg.ts';
import { STAND_IN_NODE } from './light-spk.ts';
import { architectureOf, TESTED, type Machine } from './machine.ts';

/** Stands for the whole program: notes what it was asked, and starts unless the package says otherwise. */
const SERVICE = `#!/bin/sh
echo "$1 $(cat "$DOZO_ROOT/version") $TMPDIR" >> "$DOZO_STATE/asked" 2>/dev/null
case $1 in
  start)
    mkdir -p "$DOZO_STATE/data"
    [ ! -e "$DOZO_ROOT/refuses" ] || { echo "Dozo: the server does not start." >&2; exit 1; }
    cat "$DOZO_ROOT/version" > "$DOZO_STATE/running"
    ;;
  stop) rm -f "$DOZO_STATE/running" ;;
  status) [ -e "$DOZO_STATE/running" ] || exit 3 ;;
esac
exit 0
`;

export interface LightOptions {
  version: string;
  machine?: Machine;
  /** Bytes that do not compress. */
  fillBytes?: number;
  /** Its service does not start. */
  refuses?: boolean;
  /** The real service, around a program that is none. */
  hasService?: boolean;
  /** Its runtime does not run on this system. */
  hasDeadRuntime?: boolean;
  /** Changes to the scripts of the package, by path below the project. */
  edits?: Record<string, (text: string) => string>;
}

/** A QPKG with the real installer and service script around a program that is none: installed in a moment. */
export function writeLightQpkg(options: LightOptions): Buffer {
  const {
    version,
    machine = TESTED,
    fillBytes = 10_000,
    refuses = false,
    hasService = false,
    hasDeadRuntime = false,
    edits = {},
  } = options;
  const architecture = architectureOf(machine);
  const file = (path: string, text: string | Buffer): { path: string; mode: number; data: Buffer } => ({
    path,
    mode: 0o755,
    data: Buffer.from(text),
  });
  const shared = (name: string): { path: string; mode: number; data: Buffer } =>
    file(`bin/${name}`, readFileSync(`scripts/package/payload/${name}`));
  const makePayload = (): { path: string; mode: number; data: Buffer }[] => [
    ...(hasService
      ? [shared('service'), shared('probe.mjs'), file('bin/node', STAND_IN_NODE), file('server/server-main.js', '')]
      : [file('bin/service', SERVICE), file('bin/node', '#!/bin/sh\nexit 0\n')]),
    shared('words.sh'),
    file(`lib/${architecture.loader}`, `#!/bin/sh\nexit ${hasDeadRuntime ? 1 : 0}\n`),
    file('version', `${version}\n`),
    file('filler', randomBytes(fillBytes)),
    ...(refuses ? [file('refuses', '')] : []),
  ];
  return inEditedProject(edits, () => writeQpkg({ architecture, version, payload: makePayload(), modifiedS: 0 }));
}

/** The writers read the scripts of packages from the folder they are called in. */
function inEditedProject<T>(edits: Record<string, (text: string) => string>, write: () => T): T {
  const project = process.cwd();
  const copy = mkdtempSync(join(tmpdir(), 'dozo-edited-'));
  try {
    for (const name of ['qpkg', 'spk', 'scripts/package/payload']) {
      cpSync(join(project, name), join(copy, name), { recursive: true });
    }
    for (const [path, edit] of Object.entries(edits)) {
      const before = readFileSync(join(copy, path), 'utf8');
      const after = edit(before);
      if (after === before) throw new Error(`the edit of ${path} changes nothing`);
      writeFileSync(join(copy, path), after);
    }
    process.chdir(copy);
    return write();
  } finally {
    process.chdir(project);
    rmSync(copy, { recursive: true, force: true });
  }
}
