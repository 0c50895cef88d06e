#!/bin/sh
# Installs or upgrades Dozo. Runs as root in the folder into which the package was unpacked, which is gone
# afterwards. Stages beside the old version, tries the new runtime, swaps by rename, waits for an answer,
# and goes back to the old version when there is none.
set -u
umask 022
. ./qpkg.cfg
. ./words.sh

conf=/etc/config/qpkg.conf
parent=$(cd .. && pwd)
target=$parent/Dozo
staging=$parent/.Dozo.new
previous=$parent/.Dozo.old

get() { /sbin/getcfg Dozo "$1" -d "${2:-}" -f "$conf" 2>/dev/null; }
set_key() { /sbin/setcfg Dozo "$1" "$2" -f "$conf"; }
progress() { echo "$1" > /tmp/update_process; }
tell() { # 0 info, 1 warning, 2 error; text
  echo "Dozo: $2" >&2
  /sbin/log_tool -t "$1" -u System -p 127.0.0.1 -m localhost -a "[Dozo] $2" >/dev/null 2>&1
}
give_up() {
  tell 2 "$* $(words unchanged)"
  rm -rf "$staging"
  progress -1
  exit 1
}

# older A B: whether version A is older than B, by three numbers.
older() {
  left=$1. right=$2.
  for _ in 1 2 3; do
    a=${left%%.*} b=${right%%.*}
    left=${left#*.} right=${right#*.}
    a=${a:-0} b=${b:-0}
    case $a$b in *[!0-9]*) return 1 ;; esac
    [ "$a" -lt "$b" ] && return 0
    [ "$a" -gt "$b" ] && return 1
  done
  return 1
}

progress 0
# An installation that was killed between the two renames.
if [ ! -d "$target" ] && [ -d "$previous" ]; then mv "$previous" "$target"; fi
rm -rf "$staging"

firmware=$(/sbin/getcfg System Version -f /etc/default_config/uLinux.conf 2>/dev/null)
[ -n "$firmware" ] || firmware=$(/sbin/getcfg System Version -f /etc/config/uLinux.conf 2>/dev/null)
if older "${firmware:-0}" "$QTS_MINI_VERSION"; then
  give_up "$(words firmware "$QTS_MINI_VERSION" "$firmware")"
fi
installed=$(get Version)
if [ -n "$installed" ] && [ -d "$target" ] && older "$QPKG_VER" "$installed"; then
  give_up "$(words older "$installed" "$QPKG_VER")"
fi
free_kib=$(df -k -P "$parent" 2>/dev/null | awk 'NR == 2 { print $4 }')
case $free_kib in
  '' | *[!0-9]*) ;;
  *)
    if [ "$free_kib" -lt "$DOZO_INSTALLED_KIB" ]; then
      give_up "$(words space $((free_kib / 1024)) $((DOZO_INSTALLED_KIB / 1024)))"
    fi
    ;;
esac

mkdir -p "$staging" || give_up "$(words unwritable "$parent")"
tar -xzf data.tar.gz -C "$staging" || give_up "$(words unpack)"
# The first run of the new runtime checks every file. It is not at its final place yet: so through its loader.
"$staging/lib/$DOZO_LOADER" --library-path "$staging/lib" "$staging/bin/node" "$staging/bin/verify.mjs" "$staging" ||
  give_up "$(words damaged "$(uname -r)")"

# A rename can outlive a power cut that the bytes of what was renamed do not.
sync

enabled=$(get Enable TRUE)
# The old version goes on, where it was at work.
go_on() {
  if [ "$enabled" = TRUE ] && [ -x "$target/dozo.sh" ]; then "$target/dozo.sh" start; fi
}
progress 1
if [ -x "$target/dozo.sh" ] && ! "$target/dozo.sh" stop; then
  go_on
  give_up "$(words no-stop)"
fi
rm -rf "$previous"
# Into a folder that is still there, it would be moved instead of to its name.
if [ -d "$target" ] && { [ -e "$previous" ] || ! mv "$target" "$previous"; }; then
  go_on
  give_up "$(words aside)"
fi
if ! mv "$staging" "$target"; then
  if [ -d "$previous" ] && mv "$previous" "$target"; then go_on; fi
  give_up "$(words into-place)"
fi
progress 2

link_all() {
  mkdir -p /home/httpd/RSS/images
  for suffix in '' _80 _gray; do
    cp -f "$target/.qpkg_icon$suffix.gif" "/home/httpd/RSS/images/Dozo$suffix.gif"
  done
  ln -sf "$target/dozo.sh" /etc/init.d/dozo.sh
  ln -sf /etc/init.d/dozo.sh "/etc/rcS.d/QS${QPKG_RC_NUM}Dozo"
  ln -sf /etc/init.d/dozo.sh "/etc/rcK.d/QK$((1000 - QPKG_RC_NUM))Dozo"
}
link_all

volume=$(dirname "$parent")
state=$(get State_Path)
# Data of an earlier installation is taken up again, also from another volume.
if [ -z "$state" ]; then
  state=$volume/.dozo_data
  for folder in /share/*/.dozo_data; do
    if [ ! -d "$state" ] && [ -d "$folder" ]; then state=$folder; fi
  done
fi
set_key Name Dozo
set_key Install_Path "$target"
set_key Shell "$target/dozo.sh"
set_key State_Path "$state"
set_key Enable "$enabled"

if [ "$enabled" = TRUE ] && ! "$target/dozo.sh" start; then
  "$target/dozo.sh" stop
  rm -rf "$target"
  if [ -d "$previous" ]; then
    mv "$previous" "$target"
    link_all
    "$target/dozo.sh" start
    tell 2 "$(words back "$QPKG_VER" "$installed" "$state/log/server.log")"
  else
    "./uninstall.sh"
    /sbin/rmcfg Dozo -f "$conf"
    tell 2 "$(words away "$state/log/server.log")"
  fi
  progress -1
  exit 1
fi

set_key Display_Name "$QPKG_DISPLAY_NAME"
set_key Version "$QPKG_VER"
set_key Author "$QPKG_AUTHOR"
set_key QPKG_File Dozo.qpkg
set_key Date "$(date +%Y-%m-%d)"
set_key Service_Port "$QPKG_SERVICE_PORT"
set_key Volume_Select "$QPKG_VOLUME_SELECT"
set_key WebUI "$QPKG_WEBUI"
set_key Use_Proxy "$QPKG_USE_PROXY"
set_key Proxy_Path "$QPKG_PROXY_PATH"
set_key Desktop "$QPKG_DESKTOP_APP"
set_key Win_Width "$QPKG_DESKTOP_APP_WIN_WIDTH"
set_key Win_Height "$QPKG_DESKTOP_APP_WIN_HEIGHT"
set_key Visible "$QPKG_VISIBLE"
set_key Timeout "$QPKG_TIMEOUT"
set_key RC_Number "$QPKG_RC_NUM"
set_key FW_Ver_Min "$QTS_MINI_VERSION"
set_key Distribution_Type 0
set_key Build "$(sed -n 's/^time = //p' built_info)"
[ -n "$(get Web_Port)" ] || set_key Web_Port "$QPKG_WEB_PORT"
cp -f uninstall.sh "$target/.uninstall.sh" && chmod 755 "$target/.uninstall.sh"
cp -f words.sh "$target/.installer-words.sh"
# Not before all of the new version, and what QTS knows of it, outlives a power cut.
sync
rm -rf "$previous"
tell 0 "$(words installed "$QPKG_VER")"
progress 3
exit 0
