#!/bin/sh
# Dozo @VERSION@ for QTS 5 and QuTS hero h5 on @MACHINE@. Run by App Center, or by root with: sh FILE
# Behind this script lie two archives and a trailer of 100 bytes.
PATH=/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/sbin:/usr/local/bin
export PATH
script_len=@SCRIPT_LEN@
refused=
refuse() {
  refused=yes
  echo "Dozo: $*" >&2
  echo -1 > /tmp/update_process
  /sbin/log_tool -t 2 -u System -p 127.0.0.1 -m localhost -a "[Dozo] $*" >/dev/null 2>&1
  exit 1
}
# Nothing stays of what was unpacked, also where the volume is full in the middle of it.
leave() {
  result=$?
  trap - EXIT
  [ -z "${_EXTRACT_DIR:-}" ] || rm -rf "$_EXTRACT_DIR"
  [ "$result" != 1 ] || [ -n "$refused" ] || refuse "The package cannot be unpacked: the volume may be full, or the file damaged."
  exit "$result"
}
trap leave EXIT
grep -q /mnt/HDA_ROOT /proc/mounts || refuse "The system volume of the NAS is not there."
parent=${QINSTALL_PATH:-}
if [ -z "$parent" ]; then
  volume=$(/sbin/getcfg Public path -f /etc/config/smb.conf 2>/dev/null | sed -n 's|^\(/share/[^/][^/]*\)/.*$|\1|p')
  [ -d "$volume" ] || volume=$(/sbin/getcfg SHARE_DEF defVolMP -f /etc/config/def_share.info 2>/dev/null)
  [ -z "$volume" ] || [ ! -d "$volume" ] || parent=$volume/.qpkg
elif [ ! -d "$parent" ]; then
  parent=
fi
# Without a volume, what is to be told still needs a place to be read from.
_EXTRACT_DIR=${parent:-/mnt/HDA_ROOT}/.tmp-Dozo
rm -rf "$_EXTRACT_DIR"
mkdir -p "$_EXTRACT_DIR" || refuse "Cannot write to ${parent:-/mnt/HDA_ROOT}."
dd if="${0}" bs=$script_len skip=1 2>/dev/null | tar -xO 2>/dev/null | tar -xzv -C $_EXTRACT_DIR || exit 1
. "$_EXTRACT_DIR/words.sh"
[ "$(uname -m)" = "@MACHINE@" ] || refuse "$(words processor @MACHINE@ "$(uname -m)")"
[ -n "$parent" ] || refuse "$(words nowhere "${QINSTALL_PATH:-}")"
offset=$(/usr/bin/expr $script_len + @CONTROL_LEN@)
dd if="${0}" bs=$offset skip=1 2>/dev/null | tar -x -C $_EXTRACT_DIR || refuse "$(words unpack)"
offset=$(/usr/bin/expr $offset + @DATA_LEN@)
(cd "$_EXTRACT_DIR" && sh ./install.sh) || echo "Dozo: not installed." >&2
exit 10
