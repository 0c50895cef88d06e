#!/bin/sh
# The service of Dozo on QTS and QuTS hero. What lies in memory is made anew at each start.
set -u
PATH=/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/sbin:/usr/local/bin
export PATH
conf=/etc/config/qpkg.conf
get() { /sbin/getcfg Dozo "$1" -d "${2:-}" -f "$conf" 2>/dev/null; }

DOZO_ROOT=$(get Install_Path)
if [ -z "$DOZO_ROOT" ] || [ ! -d "$DOZO_ROOT" ]; then
  # What it would say it with in the language of the NAS lies there as well.
  lost="its folder is not there${DOZO_ROOT:+ ($DOZO_ROOT)}; its volume may be locked. Unlock it, and start Dozo in App Center."
  echo "Dozo: $lost" >&2
  /sbin/log_tool -t 2 -u System -p 127.0.0.1 -m localhost -a "[Dozo] $lost" >/dev/null 2>&1
  exit 1
fi
cd "$DOZO_ROOT" || exit 1
DOZO_STATE=$(get State_Path "$(dirname "$(dirname "$DOZO_ROOT")")/.dozo_data")
TMPDIR=$DOZO_STATE/tmp
# The web server of the NAS leads /dozo here and leaves the prefix in place.
DOZO_LOOPBACK_PORT=$(get Web_Port 15510)
DOZO_LOOPBACK_PREFIX=/dozo
DOZO_START_SECONDS=90
QNAP_QPKG=Dozo
# Of the installer, and of what runs.
[ ! -r "$DOZO_ROOT/.installer-words.sh" ] || . "$DOZO_ROOT/.installer-words.sh"
[ ! -r "$DOZO_ROOT/bin/words.sh" ] || . "$DOZO_ROOT/bin/words.sh"
export DOZO_ROOT DOZO_STATE TMPDIR DOZO_LOOPBACK_PORT DOZO_LOOPBACK_PREFIX DOZO_START_SECONDS QNAP_QPKG

tell() { # 1 warning, 2 error; text
  echo "$2" >&2
  /sbin/log_tool -t "$1" -u System -p 127.0.0.1 -m localhost -a "[Dozo] $2" >/dev/null 2>&1
}

# Packages are started side by side, and maybe before the last volume is mounted.
wait_for() { # folder
  left=30
  until [ -d "$1" ]; do
    [ "$left" -gt 0 ] || return 1
    left=$((left - 1))
    sleep 1
  done
}

start() {
  if [ "$(/sbin/getcfg Dozo Enable -u -d FALSE -f "$conf")" != TRUE ]; then
    words disabled >&2
    return 1
  fi
  # The runtime looks for its loader below this name, on whichever volume the package lies.
  rm -f /var/dozo
  ln -s "$DOZO_ROOT" /var/dozo || return 1
  # Without its volume we would write into memory.
  volume=$(dirname "$DOZO_STATE")
  wait_for "$volume" || {
    tell 2 "$(words no-volume "$volume")"
    return 1
  }
  # The folder where a locked volume appears may be there, and empty: settings that were made once are not made anew.
  [ "$(get State_Made)" != "$DOZO_STATE" ] || wait_for "$DOZO_STATE/data" || {
    tell 2 "$(words no-volume "$DOZO_STATE")"
    return 1
  }
  mkdir -p "$TMPDIR" && chmod 700 "$DOZO_STATE" || return 1
  words=$(/bin/sh "$DOZO_ROOT/bin/service" start 2>&1)
  result=$?
  if [ "$result" = 0 ] && [ "$(get State_Made)" != "$DOZO_STATE" ]; then
    /sbin/setcfg Dozo State_Made "$DOZO_STATE" -f "$conf"
  fi
  [ -z "$words" ] || tell "$([ "$result" = 0 ] && echo 1 || echo 2)" "$words"
  return "$result"
}

stop() { /bin/sh "$DOZO_ROOT/bin/service" stop; }

case ${1:-} in
  start) start ;;
  stop) stop ;;
  restart) stop && start ;;
  status) /bin/sh "$DOZO_ROOT/bin/service" status ;;
  remove) rm -f /var/dozo ;;
  *)
    echo "usage: dozo.sh start|stop|restart|status|remove" >&2
    exit 1
    ;;
esac
