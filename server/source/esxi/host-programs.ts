import { shell, type ShellCommand } from '../../ssh/index.ts';
import type { HostShell } from './host-shell.ts';

/*
 * What runs on a host to read and write many places of a file over one channel. ESXi has had a Python of its
 * own since 6.5, and a place costs it nothing; by the shell each costs a process (2 to 3 ms). Both speak the
 * same: a line of numbers in, ended by a number of ours; bytes in or out; a line out that carries that number
 * and a token. So what went wrong is seen at the place where it did, before any byte is used.
 */

/** Whether the host has a Python that these programs run on. Asked once a connection's life. */
export async function probePython(host: HostShell, signal?: AbortSignal): Promise<boolean> {
  let answer = answers.get(host);
  if (answer === undefined) {
    const command = shell`python3 -I -S -c ${'import os, sys; sys.exit(sys.version_info < (3, 5))'}`;
    answer = host.exec(command, { isRepeatable: true, ...(signal && { signal }) }).then(({ code }) => code === 0);
    answers.set(host, answer);
    answer.catch(() => answers.delete(host));
  }
  return await answer;
}

const answers = new WeakMap<HostShell, Promise<boolean>>();

/** Blocks that the shell's way counts in. Every place that is read begins at a multiple. */
export const BLOCK_BYTES = 64 * 1024;
/** Exit status of both: the file is shorter than asked for, which would leave both sides waiting for the other. */
export const EXIT_TOO_SHORT = 4;

const READ_BY_PYTHON = `import os, sys
token, path, least = sys.argv[1:]
file = os.open(path, os.O_RDONLY)
if os.fstat(file).st_size < int(least):
    sys.exit(4)
def put(data):
    data = memoryview(data)
    while data:
        data = data[os.write(1, data):]
for line in iter(sys.stdin.readline, ''):
    at, left, number = map(int, line.split())
    os.lseek(file, at, os.SEEK_SET)
    while left > 0:
        data = os.read(file, min(left, 262144))
        if not data:
            break
        put(data)
        left -= len(data)
    put(('%s-%d\\n' % (token, number)).encode())
`;
const READ_BY_SHELL =
  '[ "$(stat -c %s -- "$1" 2>/dev/null || echo 0)" -ge "$2" ] || exit 4; f=$1; while read -r s c n; do ' +
  'dd if="$f" bs=65536 skip="$s" count="$c" 2>/dev/null || exit 3; echo "$0-$n"; done';

/** Serves places of a file, each asked for by `askRange`. */
export function serveRanges(
  hasPython: boolean,
  { token, path, sizeBytes }: { token: string; path: string; sizeBytes: number },
): ShellCommand {
  return hasPython
    ? shell`python3 -I -S -c ${READ_BY_PYTHON} ${token} ${path} ${sizeBytes}`
    : shell`sh -c ${READ_BY_SHELL} ${token} ${path} ${sizeBytes}`;
}

/** @param offsetBytes a multiple of 64 KiB */
export function askRange(hasPython: boolean, offsetBytes: number, lengthBytes: number, number: number): string {
  const place = hasPython
    ? [offsetBytes, lengthBytes]
    : [offsetBytes / BLOCK_BYTES, Math.ceil(lengthBytes / BLOCK_BYTES)];
  return `${[...place, number].join(' ')}\n`;
}

const WRITE_BY_PYTHON = `import os, sys
token, path = sys.argv[1:]
file = os.open(path, os.O_WRONLY)
source = sys.stdin.buffer
room = memoryview(bytearray(1048576))
for line in iter(source.readline, b''):
    at, left, number = map(int, line.split())
    os.lseek(file, at, os.SEEK_SET)
    while left > 0:
        got = source.readinto(room[:min(left, len(room))])
        if not got:
            sys.exit(3)
        left -= got
        data = room[:got]
        while data:
            data = data[os.write(file, data):]
    print('%s-%d' % (token, number), flush=True)
`;
/** dd takes whole blocks from a pipe only with `fullblock`; see `probeFullBlock`. */
const WRITE_BY_SHELL =
  'while read -r b s c n; do ' +
  'dd of="$1" bs="$b" seek="$s" count="$c" iflag=fullblock conv=notrunc 2>/dev/null || exit 3; echo "$0-$n"; done';

/** Writes places of a file, each announced by `announceRun` and followed by exactly its bytes. */
export function serveRuns(hasPython: boolean, { token, path }: { token: string; path: string }): ShellCommand {
  return hasPython
    ? shell`python3 -I -S -c ${WRITE_BY_PYTHON} ${token} ${path}`
    : shell`sh -c ${WRITE_BY_SHELL} ${token} ${path}`;
}

export function announceRun(hasPython: boolean, offsetBytes: number, lengthBytes: number, number: number): string {
  const { block, first, count } = blocksOf(offsetBytes, lengthBytes);
  const place = hasPython ? [offsetBytes, lengthBytes] : [block, first, count];
  return `${[...place, number].join(' ')}\n`;
}

/** Whether dd of this host can take whole blocks from a pipe. */
export async function probeFullBlock(host: HostShell, signal: AbortSignal): Promise<boolean> {
  const command = shell`echo dozo | dd bs=2 count=1 iflag=fullblock of=/dev/null`;
  return (await host.exec(command, { isRepeatable: true, signal })).code === 0;
}

/** The largest block, up to 64 KiB, in which an offset and a length are whole numbers. */
export function blocksOf(offsetBytes: number, lengthBytes: number): { block: number; first: number; count: number } {
  let block = BLOCK_BYTES;
  while (block > 1 && (offsetBytes % block !== 0 || lengthBytes % block !== 0)) block /= 2;
  return { block, first: offsetBytes / block, count: lengthBytes / block };
}
