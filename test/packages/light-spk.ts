import { readdirSync, readFileSync } from 'node:fs';
import type { Member, Spk } from './archives.ts';

/**
 * Stands for Node: answers what the service asks of it, and as the server keeps a secret, takes the password of the
 * wizard, and runs until it is told to end. With `data/slow` it does not answer, with `data/stubborn` it does not end;
 * `data/port-taken` is another program on port 5510, `data/ports-taken` one on every port that it may have.
 */
export const STAND_IN_NODE = `#!/bin/sh
answering=$DOZO_STATE/run/answering
case "$*" in
  '-e 0') exit 0 ;;
  *'probe.mjs free '*)
    [ ! -e "$DOZO_STATE/data/ports-taken" ] || exit 1
    [ ! -e "$DOZO_STATE/data/port-taken" ] || shift 2
    echo "$3"
    ;;
  *'probe.mjs health '*) [ -d "/proc/$(cat "$answering" 2>/dev/null)/fd" ] ;;
  *server-main.js)
    [ ! -e "$DOZO_STATE/data/refuses" ] || { cat "$DOZO_STATE/data/refuses"; exit 1; }
    [ -e "$DOZO_STATE/data/secret" ] || echo "key of $$" > "$DOZO_STATE/data/secret"
    [ -z "\${DOZO_ADMIN_PASSWORD_FILE:-}" ] || cp "$DOZO_ADMIN_PASSWORD_FILE" "$DOZO_STATE/data/account"
    if [ -e "$DOZO_STATE/data/stubborn" ]; then trap : TERM; else trap 'rm -f "$answering"; exit 0' TERM; fi
    [ -e "$DOZO_STATE/data/slow" ] || echo $$ > "$answering"
    while :; do /bin/busybox sleep 1 & wait $!; done
    ;;
esac
`;

/**
 * An SPK with the real scripts and the real service around a program that is none: started in a moment.
 *
 * @param edits of scripts by their name; `service` is the one that all NAS share
 */
export function makeLightSpk(version: string, edits: Record<string, (text: string) => string> = {}): Spk {
  const edited = (name: string, text: string): string => {
    const after = edits[name]?.(text) ?? text;
    if (edits[name] !== undefined && after === text) throw new Error(`the edit of ${name} changes nothing`);
    return after;
  };
  const member = (name: string, data: Buffer | string): Member => ({
    name,
    mode: 0o755,
    type: '0',
    owner: [0, 0],
    modifiedS: 0,
    data: Buffer.from(data),
  });
  const read = (name: string): string => readFileSync(`scripts/package/payload/${name}`, 'utf8');
  const scripts = readdirSync('spk/scripts').map((name) =>
    member(`scripts/${name}`, edited(name, readFileSync(`spk/scripts/${name}`, 'utf8'))),
  );
  return {
    info: new Map([['version', version]]),
    members: new Map(scripts.map((script) => [script.name, script])),
    payload: [
      member('bin/node', STAND_IN_NODE),
      member('bin/service', edited('service', read('service'))),
      ...['words.sh', 'probe.mjs'].map((name) => member(`bin/${name}`, read(name))),
      member('server/server-main.js', ''),
      member('version', version),
    ],
  };
}
