import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { PayloadFile } from './payload-file.ts';
import type { Architecture } from './pins.ts';
import { SPK_FOLDER } from './spk.ts';

/**
 * Shell: makes programs for Arm run below a user namespace of ours, by the first bytes of their file. `F`: the
 * emulator is opened now, where it still is in sight. Kernels before 6.7 know this for the whole machine only.
 */
export const KNOW_ARM = String.raw`mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf '%s' ':arm:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64-static:F' > /proc/sys/fs/binfmt_misc/register`;

/**
 * awk, over /proc/PID/smaps: the KiB (`Pss`) of programs, or of what is emulated where they are (`part=emulated`).
 * qemu-user gives a program for Arm addresses from 2^38 or 0x5500000000 on, or what it asks for, which Node does below
 * 2^46. Its own program, heap, translations and stacks lie where Linux on x86-64 puts them: from 0x550000000000 on.
 */
export const SUM_MEMORY =
  '/^[0-9a-f]+-[0-9a-f]+ / { split($1, range, "-"); is_emulated = length(range[1]) < 12 || range[1] ~ /^[0-3]/ } /^Pss:/ && (part != "emulated" || is_emulated) { sum += $2 } END { print sum }';

/** Shell: starts server and queue as installed, waits for an answer, and prints their memory. $1: the root. */
const START_AND_MEASURE = `
folder=${SPK_FOLDER}
mount -t proc proc "$1/proc"
for name in null zero random urandom; do : > "$1/dev/$name"; mount --bind "/dev/$name" "$1/dev/$name"; done
busybox ip link set lo up
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TMPDIR=/tmp LC_ALL=C NODE_ENV=production
export DOZO_ROOT=$folder DOZO_STATE=/state DOZO_DATA_DIR=/state DOZO_PORT=5510 DOZO_LOOPBACK_PORT=15510 DOZO_ISCSI=off
export DOZO_REDIS_BINARY=$folder/bin/valkey-server
chroot "$1" $folder/bin/node --max-old-space-size=192 $folder/server/server-main.js > "$1/log" 2>&1 < /dev/null &
until chroot "$1" $folder/bin/node $folder/bin/probe.mjs health 5510 2> /dev/null; do
  kill -0 $! 2> /dev/null || exit 1
  sleep 1
done
maps=
for process in /proc/[0-9]*; do
  tr '\\0' ' ' < $process/cmdline 2> /dev/null | grep -q -e 'server/server-main' -e 'bin/valkey-server' && maps="$maps $process/smaps"
done
awk -v part="$2" "$3" $maps
`;
const TIMEOUT_MS = 600_000;

/**
 * Starts what was packed once, in a root of its own with nothing else in it, and measures what server and queue take
 * at rest together. That for another processor is emulated by qemu-user, whose own memory does not count.
 *
 * @param payload whose interpreter is that of the package for DSM
 * @returns KiB, or why it could not be measured here
 * @throws Error when it was started and does not answer
 */
export function measureIdleMemory({ machine }: Architecture, payload: readonly PayloadFile[]): number | string {
  const isEmulated = machine !== spawnSync('uname', ['-m'], { encoding: 'utf8' }).stdout.trim();
  if (isEmulated && machine !== 'aarch64') return `this machine does not run ${machine}`;
  const enter = ['-Urmpfn', '--kill-child', 'sh', '-ec'];
  const prepare = isEmulated ? KNOW_ARM : ':';
  const trial = spawnSync('unshare', [...enter, `mount -t proc proc /proc\n${prepare}`], { encoding: 'utf8' });
  if (trial.status !== 0) return trial.error?.message ?? (trial.stderr.trim() || 'no namespaces, or no emulator');
  const root = mkdtempSync(join(tmpdir(), 'dozo-started-'));
  try {
    for (const name of ['proc', 'dev', 'tmp', 'state']) mkdirSync(join(root, name));
    for (const { path, mode, data } of payload) {
      const place = join(root, SPK_FOLDER, path);
      mkdirSync(dirname(place), { recursive: true });
      writeFileSync(place, data, { mode });
    }
    const script = `mount -t proc proc /proc\n${prepare}\n${START_AND_MEASURE}`;
    const part = isEmulated ? 'emulated' : 'all';
    const result = spawnSync('unshare', [...enter, script, 'sh', root, part, SUM_MEMORY], {
      encoding: 'utf8',
      timeout: TIMEOUT_MS,
    });
    const kib = Number(result.stdout.trim());
    if (result.status === 0 && kib > 0) return kib;
    const log = spawnSync('tail', ['-n', '20', join(root, 'log')], { encoding: 'utf8' }).stdout;
    throw new Error(`what was packed for ${machine} does not start:\n${result.stderr}${log}`);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}
