import type { Command } from './command.ts';

export const vmware: Command = async (host, call) => {
  const { version, build, level } = host.profile;
  if (call.args.includes('-v')) call.out(`VMware ESXi ${version} build-${build}\n`);
  else if (call.args.includes('-l')) call.out(`${level}\n`);
  else call.out(`VMware ESXi ${version} build-${build}\n${level}\n`);
  return 0;
};

export const uname: Command = async (host, call) => {
  const { version, build } = host.profile;
  const parts: Record<string, string> = {
    s: 'VMkernel',
    n: host.hostName,
    r: version,
    v: `#1 SMP Release build-${build} Apr  1 2025 00:00:00`,
    m: 'x86_64',
    p: 'x86_64',
    i: 'x86_64',
    o: 'ESXi',
  };
  const wanted = call.args.flatMap((arg) => (arg.startsWith('-') ? [...arg.slice(1)] : []));
  const letters = wanted.includes('a')
    ? ['s', 'n', 'r', 'v', 'm', 'p', 'i', 'o']
    : wanted.length === 0
      ? ['s']
      : wanted;
  call.out(letters.map((letter) => parts[letter] ?? '').join(' ') + '\n');
  return 0;
};

export const hostname: Command = async (host, call) => {
  call.out(`${host.hostName}\n`);
  return 0;
};

/** Datastores only, as the host's own df shows them. */
export const df: Command = async (host, call) => {
  const isHuman = call.args.some((arg) => /^-\w*h/.test(arg));
  const wanted = call.args.filter((arg) => !arg.startsWith('-'));
  const human = (bytes: number) => {
    const units = ['', 'K', 'M', 'G', 'T'];
    let value = bytes;
    let unit = 0;
    for (; value >= 1024 && unit < 4; unit++) value /= 1024;
    return `${value.toFixed(1)}${units[unit] ?? ''}`;
  };
  const isKib = call.args.some((arg) => /^-\w*k/.test(arg));
  const number = (bytes: number) => (isHuman ? human(bytes) : String(isKib ? Math.floor(bytes / 1024) : bytes));
  const unit = isHuman ? 'Size' : isKib ? '1k-blocks' : 'Bytes';
  call.out(
    `${'Filesystem'.padEnd(10)} ${unit.padStart(14)} ${'Used'.padStart(14)} ${'Available'.padStart(14)} Use% Mounted on\n`,
  );
  for (const store of host.state().datastores) {
    const mount = `/vmfs/volumes/${store.name}`;
    const isWanted =
      wanted.length === 0 ||
      wanted.some((path) => host.datastores.locate(path, call.folder)?.volume.uuid === store.uuid);
    if (!isWanted) continue;
    const used = store.capacityBytes - store.freeBytes;
    const percent = Math.round((used / Math.max(1, store.capacityBytes)) * 100);
    call.out(
      `${store.type.padEnd(10)} ${number(store.capacityBytes).padStart(14)} ${number(used).padStart(14)} ${number(store.freeBytes).padStart(14)} ${String(percent).padStart(3)}% ${mount}\n`,
    );
  }
  return 0;
};

/** PAM asks: is this the password? The answer goes by the status alone. */
export const auth: Command = async (host, call) => {
  const password = call.args.at(-1) ?? '';
  const answer = host.accounts.login(call.user, password);
  return 'ok' in answer && host.switches.role !== 'no-shell' ? 0 : 1;
};

/** PAM asks: may this account log in at all (also with a key)? */
export const account: Command = async (host, call) =>
  host.accounts.isLocked(call.user) ||
  host.switches.lockdown !== 'lockdownDisabled' ||
  host.switches.role === 'no-shell'
    ? 1
    : 0;
