# What the installer tells people, in the language of the NAS. Sourced; strict POSIX.
#
# words KEY A B C: prints the sentence. DOZO_LANGUAGE is ger, jpn, or English for all others.
words() {
  case ${DOZO_LANGUAGE:-}:$1 in
    ger:unchanged) echo "Nichts wurde geändert." ;;
    ger:processor) echo "Dieses Paket ist für $2; dieses NAS hat $3. Verwenden Sie das andere Paket." ;;
    ger:nowhere) echo "Es gibt kein Volume zum Installieren${2:+: $2 wurde nicht gefunden}. Legen Sie in Speicher & Snapshots eines an, oder entsperren Sie es." ;;
    ger:firmware) echo "Dozo braucht QTS oder QuTS hero $2 oder neuer; dies ist ${3:-unbekannt}." ;;
    ger:older) echo "Version $2 ist installiert und neuer als $3. Entfernen Sie sie zuerst; ihre Daten bleiben." ;;
    ger:space) echo "Auf dem Volume sind nur $2 MiB frei, $3 MiB werden gebraucht." ;;
    ger:unwritable) echo "In $2 kann nicht geschrieben werden." ;;
    ger:unpack) echo "Das Paket lässt sich nicht auspacken: Das Volume ist vielleicht voll oder die Datei beschädigt." ;;
    ger:damaged) echo "Die Dateien sind beschädigt, oder die Laufzeitumgebung des Pakets startet auf diesem NAS nicht ($2)." ;;
    ger:no-stop) echo "Die laufende Version lässt sich nicht anhalten." ;;
    ger:aside) echo "Die alte Version lässt sich nicht beiseitelegen." ;;
    ger:into-place) echo "Die neue Version lässt sich nicht an ihren Platz bringen." ;;
    ger:back) echo "Version $2 startet nicht; Version $3 ist zurück und läuft. Siehe $4." ;;
    ger:away) echo "Dozo startet nicht und wurde wieder entfernt. Siehe $2." ;;
    ger:installed) echo "Version $2 ist installiert." ;;
    ger:removed) echo "Dozo ist entfernt. Einstellungen und Schlüssel liegen weiter in $2; eine Sicherung, die gerade lief, wird fortgesetzt, wenn Dozo wieder installiert wird." ;;
    jpn:unchanged) echo "変更は行われていません。" ;;
    jpn:processor) echo "このパッケージは $2 用です。この NAS は $3 です。もう一方のパッケージを使用してください。" ;;
    jpn:nowhere) echo "インストール先のボリュームがありません${2:+（$2 が見つかりません）}。「ストレージ＆スナップショット」でボリュームを作成するか、ロックを解除してください。" ;;
    jpn:firmware) echo "Dozo には QTS または QuTS hero $2 以降が必要です。このシステムは ${3:-不明} です。" ;;
    jpn:older) echo "$3 より新しいバージョン $2 がインストールされています。先に削除してください。データは残ります。" ;;
    jpn:space) echo "ボリュームの空きは $2 MiB しかありません。$3 MiB が必要です。" ;;
    jpn:unwritable) echo "$2 に書き込めません。" ;;
    jpn:unpack) echo "パッケージを展開できません。ボリュームに空きがないか、ファイルが破損しています。" ;;
    jpn:damaged) echo "ファイルが破損しているか、パッケージのランタイムがこの NAS（$2）で起動しません。" ;;
    jpn:no-stop) echo "実行中のバージョンが停止しません。" ;;
    jpn:aside) echo "以前のバージョンを退避できません。" ;;
    jpn:into-place) echo "新しいバージョンを配置できません。" ;;
    jpn:back) echo "バージョン $2 が起動しないため、バージョン $3 に戻して実行しています。$4 を確認してください。" ;;
    jpn:away) echo "Dozo が起動しないため、削除しました。$2 を確認してください。" ;;
    jpn:installed) echo "バージョン $2 がインストールされました。" ;;
    jpn:removed) echo "Dozo を削除しました。設定とキーは $2 に残っています。実行中だったバックアップは、Dozo を再インストールすると続行されます。" ;;
    *:unchanged) echo "Nothing was changed." ;;
    *:processor) echo "This package is for $2; this NAS has $3. Take the other one." ;;
    *:nowhere) echo "There is no volume to install on${2:+: $2 is not there}. Make one in Storage & Snapshots, or unlock it." ;;
    *:firmware) echo "Dozo needs QTS or QuTS hero $2 or later; this is ${3:-unknown}." ;;
    *:older) echo "Version $2 is installed, which is newer than $3. Remove it first; its data stays." ;;
    *:space) echo "Only $2 MiB are free on the volume, $3 MiB are needed." ;;
    *:unwritable) echo "Cannot write to $2." ;;
    *:unpack) echo "The package cannot be unpacked: the volume may be full, or the file damaged." ;;
    *:damaged) echo "The files are damaged, or the runtime of the package does not start on this NAS ($2)." ;;
    *:no-stop) echo "The running version does not stop." ;;
    *:aside) echo "The old version cannot be moved aside." ;;
    *:into-place) echo "The new version cannot be moved into place." ;;
    *:back) echo "Version $2 does not start; version $3 is back and running. See $4." ;;
    *:away) echo "Dozo does not start and was taken away again. See $2." ;;
    *:installed) echo "Version $2 is installed." ;;
    *:removed) echo "Dozo is removed. Settings and keys stay in $2; a backup that was at work goes on when Dozo is installed again." ;;
  esac
}
# As QTS names languages in its settings; where it does not, English.
case $(/sbin/getcfg System Language -d "" -f /etc/config/uLinux.conf 2>/dev/null) in
  GER* | DEU* | Ger* | ger* | de*) DOZO_LANGUAGE=ger ;;
  JPN* | JIS* | Jap* | jpn* | ja*) DOZO_LANGUAGE=jpn ;;
  *) DOZO_LANGUAGE= ;;
esac
export DOZO_LANGUAGE
