import { randomHex } from '../../runtime/index.ts';
import { shell, type SshChannel, type SshConnection } from '../../ssh/index.ts';
import { commandFailed, isLost, type HostShell } from './host-shell.ts';

/**
 * A lock on a host that several processes and machines back up. It is a folder, made by a script that stays on its
 * channel: when its standard input ends, because the holder is done or because its connection or process is gone, it
 * removes the folder. In the RAM disk of the host: gone after a restart.
 *
 * What no end of input tells is told by the folder: who made it (a former attempt of the same holder, whose connection
 * the host's SSH service still believes in), its process (which was killed), its age (of a machine that lost its
 * power). Whoever finds such a folder takes a second one before it looks again and removes the first, so that nobody
 * removes a fresh one.
 */
const HOLD_LOCK = `
lock=$1 token=$2 tries=0 ended=
is_older() { made=$(stat -c %Y "$1" 2>/dev/null) && [ $(($(date +%s) - made)) -gt "$2" ]; }
is_stale() {
  held=$(cat "$lock/holder" 2>/dev/null)
  [ -n "$held" ] && [ "\${held#* }" = "$token" ] && return 0
  [ -n "$held" ] && kill -0 "\${held% *}" 2>&1 | grep -qi 'no such' && return 0
  is_older "$lock" ${String(5 * 60)}
}
trap 'ended=1' TERM HUP INT
until mkdir "$lock" 2>/dev/null; do
  [ -z "$ended" ] || exit 1
  if is_stale; then
    if mkdir "$lock.breaking" 2>/dev/null; then
      is_stale && rm -rf "$lock"
      rmdir "$lock.breaking"
    elif is_older "$lock.breaking" 60; then
      rmdir "$lock.breaking"
    fi
  fi
  tries=$((tries + 1))
  [ $tries -lt ${String(10 * 60)} ] || exit 1
  sleep 1
done
echo "$$ $token" >"$lock/holder"
echo held
cat >/dev/null
[ "$(cat "$lock/holder" 2>/dev/null)" = "$$ $token" ] && rm -rf "$lock"
exit 0`;

/** How often work is begun anew because the lock went with its connection. */
const ATTEMPTS = 4;

/**
 * Does something while nobody else holds the lock of that name. When the connection is lost in between, the lock is
 * lost with it, and the work is begun anew on the next one: it must bear that.
 * @param work is given a shell that ends when the lock does
 * @throws HOST_COMMAND_FAILED when the lock cannot be had, CANCELLED, what the work threw
 */
export async function holdingLock<T>(
  host: HostShell,
  name: string,
  signal: AbortSignal | undefined,
  work: (held: HostShell) => Promise<T>,
): Promise<T> {
  const token = randomHex(8);
  for (let attempt = 1; ; attempt += 1) {
    const connection = await host.usable(signal);
    try {
      const lock = await takeLock(connection, name, token, signal);
      try {
        return await work(host.over(connection));
      } finally {
        await releaseLock(lock);
      }
    } catch (error) {
      if (!isLost(error) || attempt === ATTEMPTS) throw error;
      await host.renew(connection, signal);
    }
  }
}

async function takeLock(
  connection: SshConnection,
  name: string,
  token: string,
  signal: AbortSignal | undefined,
): Promise<SshChannel> {
  signal?.throwIfAborted();
  const command = shell`sh -c ${HOLD_LOCK} dozo ${`/tmp/.${name}.lock`} ${token}`;
  const channel = await connection.open(command);
  // Only the wait can be aborted: a holder that was ended by force would leave its folder.
  const onAbort = (): void => channel.abort();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    for await (const words of channel.stdout.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      if (words.includes('held')) return channel;
    }
    const { code, stderr } = await channel.exit;
    throw commandFailed('let Dozo change its settings: another backup does', { code, stderr });
  } catch (error) {
    channel.abort();
    throw error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

/** A lock that was lost needs no release; the work's own commands have told that it was. */
async function releaseLock(lock: SshChannel): Promise<void> {
  lock.stdout.resume();
  lock.stdin.end();
  await lock.exit.catch(() => undefined);
}
