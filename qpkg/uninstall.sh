#!/bin/sh
# Takes away what install.sh put in place, and nothing else: settings and keys stay in .dozo_data on the
# volume, backups in their shared folders.
target=$(/sbin/getcfg Dozo Install_Path -d "" -f /etc/config/qpkg.conf)
state=$(/sbin/getcfg Dozo State_Path -d "" -f /etc/config/qpkg.conf)
words() { :; }
[ ! -r "$target/.installer-words.sh" ] || . "$target/.installer-words.sh"
if [ -n "$target" ] && [ -x "$target/dozo.sh" ]; then
  "$target/dozo.sh" stop
  "$target/dozo.sh" remove
fi
case $target in
  */.qpkg/Dozo) rm -rf "$target" ;;
esac
rm -f /etc/init.d/dozo.sh /etc/rcS.d/QS[0-9]*[0-9]Dozo /etc/rcK.d/QK[0-9]*[0-9]Dozo
rm -f /home/httpd/RSS/images/Dozo.gif /home/httpd/RSS/images/Dozo_80.gif /home/httpd/RSS/images/Dozo_gray.gif
farewell=$(words removed "$state")
[ -z "$farewell" ] ||
  /sbin/log_tool -t 0 -u System -p 127.0.0.1 -m localhost -a "[Dozo] $farewell" >/dev/null 2>&1
sync
exit 0
