import { existsSync, readFileSync, rmSync } from 'node:fs';
import type { NasRoot } from './nas-root.ts';

/** Like DSM's: knows a session by cookie and token, and prints the name of whose it is. */
const AUTHENTICATE = `#!/bin/sh
[ "$HTTP_X_SYNO_TOKEN" = token-1 ] && [ "$REMOTE_ADDR" = 127.0.0.1 ] || exit 0
case $HTTP_COOKIE in
  id=admin-session-1) echo alice ;;
  id=plain-session-1) echo bob ;;
esac
`;
const ID = '#!/bin/sh\ncase $2 in alice) echo users administrators ;; *) echo users ;; esac\n';

const NOTICES = 'tmp/notices';
const REFUSED = 'etc/no-system-notices';

/**
 * Shows nothing that DSM would not show: sentences only as keys that the package's own texts have, and that it has
 * loaded without its window being open; for the application that is named in INFO.
 */
const SYNODSMNOTIFY = `#!/bin/sh
package=/var/packages/Dozo
[ "$1" = -c ] && grep -qxF "dsmappname=\\"$2\\"" $package/INFO && [ "$3" = @administrators ] || exit 1
for reference in "$4" "$5"; do
  case $reference in Dozo:*:*) ;; *) exit 1 ;; esac
  name=\${reference#Dozo:}
  grep '"preloadTexts"' $package/target/desktop/config | grep -qF "\\"$name\\"" || exit 1
  for words in $package/target/desktop/texts/*/strings; do
    sed -n "/^\\[\${name%%:*}\\]/,/^\\[/p" "$words" | grep -q "^\${name#*:}=\\"." || exit 1
  done
done
echo "note $4 $6" >> /${NOTICES}
`;

/** Passes on what the package's own texts have a form for, by the worker sysnotify; refused where the user may not. */
const SYNONOTIFY = `#!/bin/sh
package=/var/packages/Dozo
[ ! -e /${REFUSED} ] || exit 1
grep -qF '"texts_dir": "desktop/texts"' $package/conf/resource || exit 1
for words in $package/target/desktop/texts/*/mails; do grep -qxF "[$1]" "$words" || exit 1; done
echo "system $1 $2" >> /${NOTICES}
`;

/** The programs of DSM that Dozo asks: one administrator, one other user. They refuse what DSM's refuse. */
export function placeDsmPrograms(root: NasRoot): void {
  root.write('usr/syno/synoman/webman/modules/authenticate.cgi', AUTHENTICATE, 0o755);
  root.write('usr/syno/bin/synodsmnotify', SYNODSMNOTIFY, 0o755);
  root.write('usr/syno/bin/synonotify', SYNONOTIFY, 0o755);
  root.write('usr/bin/id', ID, 0o755);
}

/** Whether users of packages may call `synonotify` is known for no DSM. */
export function refuseSystemNotices(root: NasRoot, isRefused: boolean): void {
  if (isRefused) root.write(REFUSED, '');
  else rmSync(root.path(REFUSED), { force: true });
}

/** What DSM was told: `system TAG VALUES` or `note TITLE TEXT`, one a line. */
export function readNotices(root: NasRoot): string[] {
  const path = root.path(NOTICES);
  return existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n') : [];
}
