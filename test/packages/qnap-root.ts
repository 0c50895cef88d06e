import { QTS_TLS_PORT } from './desktop.ts';
import { NasRoot, type NasOptions } from './nas-root.ts';

/** QTS's tools for its configuration files, as far as a package uses them. */
const GETCFG = `#!/bin/sh
section=$1 key=$2 file=/etc/config/uLinux.conf default= upper=
shift 2
while [ $# -gt 0 ]; do
  case $1 in
    -d) default=$2; shift ;;
    -f) file=$2; shift ;;
    -u) upper=1 ;;
  esac
  shift
done
value=$(awk -v s="[$section]" -v k="$key" '/^\\[/ { on = ($0 == s) } on && index($0, k " = ") == 1 { print substr($0, length(k) + 4); exit }' "$file" 2>/dev/null)
result=0
[ -n "$value" ] || { value=$default; result=250; }
[ -z "$upper" ] || value=$(echo "$value" | tr a-z A-Z)
[ -z "$value" ] || echo "$value"
exit $result
`;
const SETCFG = `#!/bin/sh
section=$1 key=$2 value=$3 file=$5
awk -v s="[$section]" -v k="$key" -v v="$value" '
  /^\\[/ { if (on && !done) { print k " = " v; done = 1 } on = ($0 == s); if (on) seen = 1 }
  on && index($0, k " = ") == 1 { if (!done) print k " = " v; done = 1; next }
  { print }
  END { if (!seen) print s; if (!done) print k " = " v }' "$file" > "$file.new" && mv "$file.new" "$file"
`;
const RMCFG = `#!/bin/sh
awk -v s="[$1]" '/^\\[/ { on = ($0 == s) } !on { print }' "$3" > "$3.new" && mv "$3.new" "$3"
`;
/** That of an older QTS, which does not know the options for the name of an application. */
const LOG_TOOL = `#!/bin/sh
line=$*
while [ $# -gt 0 ]; do
  case $1 in -t | -u | -p | -m | -a) [ $# -gt 1 ] || exit 1 ;; *) exit 1 ;; esac
  case $1 in -t) case $2 in 0 | 1 | 2) ;; *) exit 1 ;; esac ;; esac
  shift 2
done
echo "$line" >> /etc/config/events
`;

/** Notes what the folder of packages holds at that moment: the disks of the machine that tests run on are not ours. */
const SYNC = `#!/bin/sh
echo $(ls -A /share/CACHEDEV1_DATA/.qpkg 2>/dev/null) >> /tmp/synced
`;

/** Shell: what a NAS has mounted. */
export const ON_QNAP = 'mkdir -p /mnt/HDA_ROOT; mount -t tmpfs none /mnt/HDA_ROOT; cd /';

/** A root like that of QTS 5, with a neighbour whose name ends like ours. */
export function makeQnapRoot(shell: 'dash' | 'busybox', options: NasOptions = {}): NasRoot {
  const root = new NasRoot(shell, options);
  root.write('sbin/getcfg', GETCFG, 0o755);
  root.write('sbin/setcfg', SETCFG, 0o755);
  root.write('sbin/rmcfg', RMCFG, 0o755);
  root.write('sbin/log_tool', LOG_TOOL, 0o755);
  root.write('bin/sync', SYNC, 0o755);
  root.write('etc/config/smb.conf', '[Public]\npath = /share/CACHEDEV1_DATA/Public\n');
  root.write('etc/config/qpkg.conf', '[MyDozo]\nEnable = TRUE\n');
  root.write('etc/default_config/uLinux.conf', '[System]\nVersion = 5.2.6\n');
  for (const folder of ['share/CACHEDEV1_DATA/Public', 'mnt/HDA_ROOT', 'etc/init.d', 'etc/rcS.d', 'etc/rcK.d']) {
    root.makeFolder(folder);
  }
  root.write('etc/rcS.d/QS190MyDozo', '');
  root.write(
    'etc/config/uLinux.conf',
    `[System]\nVersion = 5.2.6\nWeb Access Port = 8080\n[Stunnel]\nEnable = 1\nPort = ${QTS_TLS_PORT}\n`,
  );
  return root;
}
