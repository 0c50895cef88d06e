import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { HostProfile } from '../hostd/host-profile.ts';
import type { NativePrograms } from '../native/build.ts';

/**
 * Applets of an ESXi shell. What is not here is not there: `tr`, `timeout`, `readlink`, …
 * are missing on some versions, so on all of the lab's.
 */
const APPLETS =
  '[ [[ ash awk basename cat chgrp chmod chown clear cmp cp cut date dd diff dirname du echo egrep env expr false ' +
  'fgrep find grep gunzip gzip head hexdump id kill less ln ls md5sum mkdir mkfifo mktemp more mv nc nslookup od ' +
  'pidof ping printf ps pwd renice rm rmdir sed seq setsid sh sha1sum sha256sum sha512sum sleep sort stat ' +
  'stty sync tail tar tee test time top touch true uniq unzip usleep vi wc wget which who xargs zcat';

/** Commands of the host itself: thin clients of the daemon. */
const HOST_COMMANDS = ['vim-cmd', 'esxcli', 'vmware', 'df', 'uname', 'hostname', 'localcli'];
const HOST_ADMIN_COMMANDS = ['vmkfstools'];

const MISSING_BY_SWITCH = /^[\w.-]+$/;

export interface RootFolder {
  path: string;
  /** Removes or restores commands. */
  setMissing(names: readonly string[], hasPython: boolean): void;
}

/** Lays out the file system that a login to the host sees. */
export function buildRootFolder(path: string, profile: HostProfile, programs: NativePrograms): RootFolder {
  for (const folder of [
    'bin',
    'dev',
    'etc/pam.d',
    'etc/ssh',
    'etc/vmware/ssl',
    'opt/lab',
    'proc',
    'root',
    'run/sshd',
    'sbin',
    'scratch',
    'tmp',
    'usr/lib',
    'usr/lib64',
    'usr/bin',
    'usr/libexec',
    'var/empty',
    'var/log',
    'var/run/lab',
    'vmfs/volumes',
    'vmfs/devices/disks',
  ]) {
    mkdirSync(join(path, folder), { recursive: true });
  }
  link(path, 'usr/lib', 'lib');
  link(path, 'usr/lib64', 'lib64');

  writeFileSync(join(path, 'bin/busybox'), shellProgram(profile), { mode: 0o755 });
  for (const applet of APPLETS.split(' ')) link(path, 'busybox', join('bin', applet));
  copyFileSync(programs.client, join(path, 'opt/lab/lab-client'));
  copyFileSync(programs.shim, join(path, 'opt/lab/lab-shim.so'));
  copyFileSync('/usr/sbin/sshd', join(path, 'opt/lab/sshd'));
  copyFileSync(programs.nohup, join(path, 'opt/lab/nohup'));
  link(path, '/opt/lab/nohup', 'bin/nohup');
  for (const program of ['lab-client', 'lab-shim.so', 'sshd', 'nohup'])
    chmodSync(join(path, 'opt/lab', program), 0o755);
  for (const name of HOST_COMMANDS) link(path, '/opt/lab/lab-client', join('bin', name));
  for (const name of HOST_ADMIN_COMMANDS) link(path, '/opt/lab/lab-client', join('sbin', name));
  link(path, '/bin/esxcli', 'sbin/esxcli');

  const python = ['/usr/bin/python3']
    .filter((candidate) => existsSync(candidate))
    .map((found) => realpathSync(found))[0];
  if (python !== undefined) {
    copyFileSync(python, join(path, 'usr/libexec/python3'));
    chmodSync(join(path, 'usr/libexec/python3'), 0o755);
  }
  return {
    path,
    setMissing(names, hasPython) {
      const missing = names.filter((name) => MISSING_BY_SWITCH.test(name));
      for (const applet of APPLETS.split(' ')) place(path, 'busybox', join('bin', applet), !missing.includes(applet));
      for (const name of HOST_COMMANDS) {
        place(path, '/opt/lab/lab-client', join('bin', name), !missing.includes(name));
      }
      for (const name of ['python', 'python3']) {
        place(
          path,
          '/usr/libexec/python3',
          join('bin', name),
          hasPython && python !== undefined && !missing.includes(name),
        );
      }
    },
  };
}

/**
 * BusyBox, dynamically linked: the locks are preloaded into it. Where the version lacks `command`,
 * the builtin gets a name that nobody types.
 */
function shellProgram(profile: HostProfile): Buffer {
  const source = ['/bin/busybox', '/usr/bin/busybox'].find((candidate) => existsSync(candidate));
  if (source === undefined) throw new Error('the lab needs BusyBox: apt-get install busybox');
  const program = readFileSync(source);
  if (!program.includes('/lib64/ld-linux') && !program.includes('ld-linux-aarch64')) {
    throw new Error("the lab needs Debian's package busybox; busybox-static cannot take the lock shim");
  }
  if (!profile.commandBuiltin) {
    const at = program.indexOf('2command\0');
    if (at >= 0) program.write('2commanc\0', at, 'latin1');
  }
  return program;
}

export interface AccountFiles {
  users: string[];
  authorizedKeys: string[];
  hostName: string;
  banner?: string;
}

export function writeAccountFiles(root: string, options: AccountFiles): void {
  const write = (name: string, text: string, mode = 0o644) => writeFileSync(join(root, 'etc', name), text, { mode });
  const users = [...new Set(['root', ...options.users])];
  write(
    'passwd',
    users.map((user) => `${user}:x:0:0:Administrator:/:/bin/sh\n`).join('') +
      'sshd:x:74:74:sshd:/var/empty:/bin/false\n',
  );
  write('group', 'root:x:0:\nsshd:x:74:\ntty:x:5:\n');
  write('shadow', users.map((user) => `${user}:*:19000:0:99999:7:::\n`).join(''), 0o600);
  write('nsswitch.conf', 'passwd: files\ngroup: files\nshadow: files\nhosts: files\n');
  write('hosts', `127.0.0.1 localhost ${options.hostName}\n`);
  write('profile', 'export PATH=/bin:/sbin\nexport PS1="[\\u@\\h:\\w] "\n');
  write(
    'pam.d/sshd',
    [
      'auth     required pam_exec.so expose_authtok quiet /opt/lab/lab-client auth',
      'auth     required pam_permit.so',
      'account  required pam_exec.so quiet /opt/lab/lab-client account',
      'session  required pam_permit.so',
      'password required pam_deny.so',
      '',
    ].join('\n'),
  );
  write('ssh/authorized_keys', options.authorizedKeys.map((line) => line.trim() + '\n').join(''), 0o600);
  for (const user of users) {
    mkdirSync(join(root, 'etc/ssh', `keys-${user}`), { recursive: true, mode: 0o700 });
    writeFileSync(
      join(root, 'etc/ssh', `keys-${user}`, 'authorized_keys'),
      options.authorizedKeys.map((line) => line.trim() + '\n').join(''),
      { mode: 0o600 },
    );
  }
}

/** As on ESXi 7 and 8: keyboard-interactive and public keys, FIPS ciphers, no forwarding. */
export function writeSshdConfig(root: string, options: { address: string; port: number; hostKey: string }): void {
  writeFileSync(
    join(root, 'etc/ssh/sshd_config'),
    [
      `Port ${options.port}`,
      `ListenAddress ${options.address}`,
      `HostKey ${options.hostKey}`,
      'UsePAM yes',
      'PermitRootLogin yes',
      'PasswordAuthentication no',
      'KbdInteractiveAuthentication yes',
      'PubkeyAuthentication yes',
      'AuthorizedKeysFile /etc/ssh/keys-%u/authorized_keys',
      'StrictModes no',
      'MaxAuthTries 6',
      'MaxSessions 10',
      'MaxStartups 100',
      'AllowTcpForwarding no',
      'AllowAgentForwarding no',
      'AllowStreamLocalForwarding no',
      'X11Forwarding no',
      'PermitTunnel no',
      'PermitUserEnvironment no',
      'PrintMotd no',
      'PrintLastLog no',
      'UseDNS no',
      'TCPKeepAlive yes',
      'ClientAliveInterval 200',
      'ClientAliveCountMax 3',
      'Ciphers aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr',
      'Subsystem sftp /usr/lib/openssh/sftp-server',
      'SetEnv LD_PRELOAD=/opt/lab/lab-shim.so PATH=/bin:/sbin',
      'PidFile none',
      '',
    ].join('\n'),
  );
}

/** Makes a host key; gives its path inside the root and its fingerprint `SHA256:…`. */
export function makeHostKey(root: string, name: string): { path: string; fingerprint: string } {
  const inside = `/etc/ssh/${name}`;
  const file = join(root, inside);
  if (!existsSync(file)) execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'root@esxi', '-f', file]);
  const listed = execFileSync('ssh-keygen', ['-l', '-f', `${file}.pub`], { encoding: 'utf8' });
  return { path: inside, fingerprint: listed.split(' ')[1] ?? '' };
}

function link(root: string, target: string, name: string): void {
  place(root, target, name, true);
}

function place(root: string, target: string, name: string, wanted: boolean): void {
  const path = join(root, name);
  rmSync(path, { force: true });
  if (wanted) symlinkSync(target, path);
}
