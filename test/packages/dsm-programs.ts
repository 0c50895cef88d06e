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

/** The programs of DSM that Dozo asks: one administrator, one other user. */
export function placeDsmPrograms(root: NasRoot): void {
  root.write('usr/syno/synoman/webman/modules/authenticate.cgi', AUTHENTICATE, 0o755);
  root.write('usr/syno/bin/synodsmnotify', '#!/bin/sh\nexit 1\n', 0o755);
  root.write('usr/bin/id', ID, 0o755);
}
