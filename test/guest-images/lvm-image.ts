import { execFileSync } from 'node:child_process';
import { open, truncate, writeFile } from 'node:fs/promises';
import { mbrSector } from './partition-table.ts';

const SECTOR_BYTES = 512;

/** A disk with a physical volume of LVM in each of its partitions, and the tools of lvm2 at work on it. */
export interface LvmDisk {
  image: string;
  /** Where each partition begins. */
  partitions: { offsetBytes: number; sizeBytes: number }[];
  /** Runs a tool of lvm2, which sees this disk alone; `$1`, `$2` stand for its partitions. @returns its output */
  lvm(...args: string[]): string;
  /** Where a logical volume lies on the disk by lvm2's own report, in stretches. */
  stretches(group: string, name: string): LvmStretch[];
  close(): void;
}

export interface LvmStretch {
  lengthBytes: number;
  stripeBytes: number;
  /** Where it begins on each of its stripes. */
  offsets: number[];
}

/**
 * Needs root and loop devices, but no device mapper: volumes are described, never switched on, so whoever wants
 * content in them puts it where lvm2 says.
 */
export async function openLvmDisk(image: string, partitionBytes: readonly number[]): Promise<LvmDisk> {
  const partitions: LvmDisk['partitions'] = [];
  let at = 1024 * 1024;
  for (const sizeBytes of partitionBytes) {
    partitions.push({ offsetBytes: at, sizeBytes });
    at += sizeBytes;
  }
  await writeFile(image, '');
  await truncate(image, at);
  const file = await open(image, 'r+');
  const entries = partitions.map(({ offsetBytes, sizeBytes }) => ({
    type: 0x8e,
    firstSector: offsetBytes / SECTOR_BYTES,
    sectorCount: sizeBytes / SECTOR_BYTES,
  }));
  await file.write(mbrSector(entries), 0, SECTOR_BYTES, 0);
  await file.close();
  const devices: string[] = [];
  const close = (): void => {
    for (const device of devices.splice(0)) execFileSync('losetup', ['-d', device]);
  };
  try {
    for (const { offsetBytes, sizeBytes } of partitions) {
      const place = ['-o', String(offsetBytes), '--sizelimit', String(sizeBytes)];
      devices.push(execFileSync('losetup', ['--show', '-f', ...place, image], { encoding: 'utf8' }).trim());
    }
  } catch (error) {
    close();
    throw error;
  }
  const filter = [...devices.map((device) => `"a|^${device}$|"`), '"r|.*|"'].join(',');
  const config =
    `devices{use_devicesfile=0 filter=[${filter}]} backup{backup=0 archive=0} ` +
    'activation{udev_sync=0 udev_rules=0} global{event_activation=0}';
  const lvm = (command: string, ...args: string[]): string => {
    const named = args.map((arg) => arg.replace(/\$(\d)/, (_, digit: string) => devices[Number(digit) - 1] ?? ''));
    return execFileSync('lvm', [command, '--config', config, '--driverloaded', 'n', ...named], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  };
  return {
    image,
    partitions,
    lvm,
    close,
    stretches: (group, name) => {
      const report = (command: string, fields: string, ...of: string[]): string[][] => {
        const form = ['--units', 'b', '--nosuffix', '--noheadings', '--separator', ';', '-o', fields];
        const lines = lvm(command, ...form, ...of)
          .trim()
          .split('\n');
        return lines.map((line) => line.trim().split(';'));
      };
      const extentBytes = Number(report('vgs', 'vg_extent_size', group)[0]?.[0]);
      const starts = new Map(report('pvs', 'pv_name,pe_start').map(([device, start]) => [device, Number(start)]));
      const fields = 'seg_start_pe,seg_size,stripe_size,seg_pe_ranges';
      return report('lvs', fields, '--segments', `${group}/${name}`)
        .sort((a, b) => Number(a[0]) - Number(b[0]))
        .map(([, lengthBytes, stripeBytes, ranges = '']) => ({
          lengthBytes: Number(lengthBytes),
          stripeBytes: Number(stripeBytes),
          offsets: ranges.split(' ').map((range) => {
            const [, device = '', first = ''] = /^(.*):(\d+)-\d+$/.exec(range) ?? [];
            const partition = partitions[devices.indexOf(device)]?.offsetBytes ?? Number.NaN;
            return partition + (starts.get(device) ?? Number.NaN) + Number(first) * extentBytes;
          }),
        }));
    },
  };
}

/** Every stripe of a logical volume in its order: where it lies on the disk. One by one, as plainly as can be said. */
export function* stripesOf(
  stretches: readonly LvmStretch[],
): Generator<{ atBytes: number; offsetBytes: number; lengthBytes: number }> {
  let atBytes = 0;
  for (const { lengthBytes, stripeBytes, offsets } of stretches) {
    const unitBytes = offsets.length === 1 ? lengthBytes : stripeBytes;
    for (let unit = 0; unit * unitBytes < lengthBytes; unit += 1) {
      const start = offsets[unit % offsets.length] as number;
      const offsetBytes = start + Math.floor(unit / offsets.length) * unitBytes;
      yield { atBytes: atBytes + unit * unitBytes, offsetBytes, lengthBytes: unitBytes };
    }
    atBytes += lengthBytes;
  }
}
