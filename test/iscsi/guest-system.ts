import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** A small Linux whose root lies on a disk: Debian's kernel for virtual machines, BusyBox and `stress`. */
export interface GuestSystem {
  kernel: string;
  /** Finds the disk and goes over to what lies on it. */
  initramfs: string;
  /** An ext4 image that holds the rest. */
  image: string;
}

const CACHE = join(import.meta.dirname, '..', '..', '.cache', 'guest');
const META_PACKAGE = 'linux-image-cloud-amd64';
const LOAD_PACKAGE = 'stress';
const MODULES = ['virtio_ring', 'virtio', 'virtio_pci_legacy_dev', 'virtio_pci_modern_dev', 'virtio_pci', 'virtio_blk'];
const IMAGE_MIB = 64;
/** Files that the guest writes over and over. */
const FILES = 6;
/** What the guest has written at least when it ends: twice as much as the files of its rounds. */
const SECTORS_MIN = 24 * 2 * 2 * 2048;

const FIRST_SCRIPT = `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs none /dev
for m in ${MODULES.join(' ')}; do /bin/busybox insmod /modules/$m.ko; done
n=0; until [ -b /dev/vda ] || [ $n -ge 50 ]; do n=$((n+1)); /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /disk && exec /bin/busybox switch_root /disk /sbin/init
echo "NO-DISK"; /bin/busybox poweroff -f
`;

/**
 * Under the load of `stress`, which writes files and syncs without a pause: writes, reads back past the cache,
 * compares; says each step on the console.
 */
const LOAD_SCRIPT = `#!/bin/busybox sh
export PATH=/bin
busybox mount -t devtmpfs none /dev; busybox mount -t proc none /proc
cd /data
stress --hdd 2 --hdd-bytes 4M --io 1 > /stress.log 2>&1 & load=$!
i=0
while [ $i -lt 24 ]; do
  f=/data/f$((i % ${FILES}))
  busybox dd if=/dev/urandom of=$f bs=64k count=32 conv=fsync 2>/dev/null || echo "WRITE-FAILED"
  busybox md5sum $f > $f.md5; busybox sync
  i=$((i+1)); echo "round $i"
done
sectors() { busybox awk '$3 == "vda" { print $10 }' /proc/diskstats; }
while busybox kill -0 $load && [ $(sectors) -lt ${SECTORS_MIN} ]; do busybox sleep 1; done
busybox kill -0 $load && echo "LOAD-WORKED" || busybox cat /stress.log
while busybox killall stress 2>/dev/null; do busybox sleep 1; done
echo 3 > /proc/sys/vm/drop_caches
busybox md5sum -c /data/*.md5 && echo "ALL-GOOD"
cd /; busybox mount -o remount,ro / && echo "CLOSED"; busybox poweroff -f
`;

/** Makes the guest in a folder. A string: why this machine cannot. Kernel and `stress` are fetched once, by apt. */
export function buildGuest(folder: string): GuestSystem | string {
  for (const program of ['qemu-system-x86_64', 'mkfs.ext4', 'e2fsck', 'busybox', 'dpkg-deb', 'apt-get']) {
    if (!isThere(program)) return `${program} is missing`;
  }
  const root = fetchKernel();
  if (root === null) return `the package ${META_PACKAGE} cannot be had`;
  const load = fetchPackage(LOAD_PACKAGE, 'stress');
  if (load === null) return `the package ${LOAD_PACKAGE} cannot be had`;
  const [kernel] = globSync(join(root, 'boot', 'vmlinuz-*'));
  if (kernel === undefined) return 'the package holds no kernel';

  const first = join(folder, 'first');
  layOut(first, FIRST_SCRIPT, 'init', []);
  mkdirSync(join(first, 'disk'));
  mkdirSync(join(first, 'modules'));
  for (const name of MODULES) {
    const [module] = globSync(join(root, 'lib', 'modules', '*', 'kernel', '**', `${name}.ko`));
    if (module === undefined) return `the kernel has no module ${name}`;
    copyFileSync(module, join(first, 'modules', `${name}.ko`));
  }
  const initramfs = join(folder, 'initramfs');
  const list = execFileSync('find', ['.', '-mindepth', '1'], { cwd: first });
  writeFileSync(
    initramfs,
    execFileSync('busybox', ['cpio', '-o', '-H', 'newc'], {
      cwd: first,
      input: list,
      stdio: ['pipe', 'pipe', 'ignore'],
      maxBuffer: 2 ** 28,
    }),
  );

  const disk = join(folder, 'disk');
  layOut(disk, LOAD_SCRIPT, 'sbin/init', [join(load, 'usr/bin/stress')]);
  for (const name of ['data', 'proc']) mkdirSync(join(disk, name));
  const image = join(folder, 'disk.img');
  execFileSync('mkfs.ext4', ['-q', '-d', disk, image, `${IMAGE_MIB}M`], { stdio: ['ignore', 'ignore', 'pipe'] });
  return { kernel, initramfs, image };
}

function isThere(program: string): boolean {
  return ['/usr/bin', '/bin', '/usr/sbin', '/sbin'].some((folder) => existsSync(join(folder, program)));
}

function fetchKernel(): string | null {
  const cached = join(CACHE, 'kernel');
  if (existsSync(cached)) return cached;
  try {
    const depends = execFileSync('apt-cache', ['depends', META_PACKAGE], { encoding: 'utf8' });
    const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
    return name === undefined ? null : fetchPackage(name, basename(cached));
  } catch {
    return null;
  }
}

/** A package's files in a folder of the cache; not installed. */
function fetchPackage(name: string, folder: string): string | null {
  const root = join(CACHE, folder);
  if (existsSync(root)) return root;
  const temporary = join(CACHE, `${folder}.${process.pid}`);
  try {
    mkdirSync(temporary, { recursive: true });
    execFileSync('apt-get', ['download', '-qq', name], { cwd: temporary, stdio: 'ignore', timeout: 120_000 });
    const [file] = globSync(join(temporary, '*.deb'));
    if (file === undefined) return null;
    execFileSync('dpkg-deb', ['-x', file, temporary]);
    renameSync(temporary, root);
    return root;
  } catch {
    return null;
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** A folder with BusyBox, other programs, the libraries that they need and a script to begin with. */
function layOut(folder: string, script: string, scriptPath: string, others: string[]): void {
  for (const name of ['bin', 'dev', 'sbin', dirname(scriptPath)]) mkdirSync(join(folder, name), { recursive: true });
  symlinkSync('busybox', join(folder, 'bin/sh'));
  for (const program of ['/bin/busybox', ...others]) {
    copyFileSync(program, join(folder, 'bin', basename(program)));
    chmodSync(join(folder, 'bin', basename(program)), 0o755);
    const needed = execFileSync('ldd', [program], { encoding: 'utf8' });
    for (const [path] of needed.matchAll(/\/\S+/g)) {
      const target = join(folder, path);
      mkdirSync(dirname(target), { recursive: true });
      if (path !== program) writeFileSync(target, readFileSync(path), { mode: 0o755 });
    }
  }
  writeFileSync(join(folder, scriptPath), script, { mode: 0o755 });
}
