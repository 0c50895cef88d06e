import * as fs from 'node:fs/promises';

/**
 * Who made a claim, so that one of a process that is gone blocks nobody: the boot of its machine, its space of process
 * ids, its id there and when it began (proc_pid_stat(5), field 22), in one line. Empty where that cannot be told.
 */
export async function describeProcess(pid: number | 'self' = 'self'): Promise<string> {
  try {
    const [boot, space, stat] = await Promise.all([
      fs.readFile('/proc/sys/kernel/random/boot_id', 'utf8'),
      fs.readlink('/proc/self/ns/pid'),
      fs.readFile(`/proc/${pid}/stat`, 'utf8'),
    ]);
    const startTicks = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    return [boot.trim(), space, stat.slice(0, stat.indexOf(' ')), startTicks].join(' ');
  } catch {
    return '';
  }
}

/**
 * Whether the process is certainly gone. False where nobody here can know: of another machine, of another container, or
 * when the line was cut off.
 * @param isShared other machines write to the folder as well
 */
export async function isGone(owner: string, isShared: boolean): Promise<boolean> {
  const self = (await describeProcess()).split(' ');
  const parts = owner.split(' ');
  const [boot, space, pid] = parts;
  if (self.length !== 4 || parts.length !== 4 || boot === undefined || pid === undefined) return false;
  if (!/^[0-9a-f-]{36}$/.test(boot) || !/^\d+$/.test(pid) || !/^\d+$/.test(parts[3] ?? '')) return false;
  // Nobody who had the folder before this machine started can still be at work in it.
  if (boot !== self[0]) return !isShared;
  return space === self[1] && (await describeProcess(Number(pid))) !== owner;
}
