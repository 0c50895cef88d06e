# What the service tells people, in the language of the NAS. Sourced; strict POSIX.
#
# words KEY A B: prints the sentence. DOZO_LANGUAGE as DSM names languages: jpn, ger; English for all others.
words() {
  case ${DOZO_LANGUAGE:-}:$1 in
    ger:unwritable) echo "kann nicht in $2 schreiben. Der Ordner gehört vielleicht zu einer früheren Installation: Geben Sie dem Benutzer dieses Pakets das Recht dazu, oder entfernen Sie ihn, wenn seine Einstellungen nicht gebraucht werden." ;;
    ger:runtime) echo "die Laufzeitumgebung des Pakets startet auf diesem System nicht ($2). Siehe $3." ;;
    ger:no-port) echo "kein Port von 5510 bis 5515 ist frei." ;;
    ger:port-moved) echo "Port $2 gehört einem anderen Programm (Active Backup benutzt 5510); Dozo antwortet stattdessen auf $3." ;;
    ger:no-start) echo "der Server startet nicht. Das Ende von $2:" ;;
    ger:full) echo "das Volume von $2 ist voll, oder das Kontingent ist ausgeschöpft. Schaffen Sie Platz, und starten Sie das Paket noch einmal; nichts ging verloren." ;;
    ger:newer) echo "die Einstellungen in $2 stammen von einer neueren Version. Installieren Sie diese wieder; nichts wurde geändert." ;;
    ger:disabled) echo "Dozo ist im App Center deaktiviert." ;;
    ger:no-volume) echo "Das Volume mit den Einstellungen wurde nicht gefunden: $2. Entsperren Sie es, und starten Sie Dozo im App Center." ;;
    jpn:unwritable) echo "$2 に書き込めません。以前のインストールのフォルダーである可能性があります。このパッケージのユーザーに権限を付与するか、設定が不要であればフォルダーを削除してください。" ;;
    jpn:runtime) echo "このシステム（$2）ではパッケージのランタイムが起動しません。$3 を確認してください。" ;;
    jpn:no-port) echo "5510 から 5515 までのポートに空きがありません。" ;;
    jpn:port-moved) echo "ポート $2 は別のプログラムが使用しています（Active Backup は 5510 を使用します）。Dozo は代わりに $3 で応答します。" ;;
    jpn:no-start) echo "サーバーが起動しません。$2 の末尾：" ;;
    jpn:full) echo "$2 のボリュームに空きがないか、クォータの上限に達しています。空きを増やしてからパッケージを再度起動してください。失われたものはありません。" ;;
    jpn:newer) echo "$2 の設定は新しいバージョンのものです。そのバージョンを再度インストールしてください。何も変更されていません。" ;;
    jpn:disabled) echo "Dozo は App Center で無効になっています。" ;;
    jpn:no-volume) echo "設定のあるボリュームが見つかりません：$2。ロックを解除してから、App Center で Dozo を起動してください。" ;;
    *:unwritable) echo "cannot write to $2. It may belong to an earlier installation: give this package's user the right to it, or remove the folder if its settings are not needed." ;;
    *:runtime) echo "the runtime of the package does not start on this system ($2). See $3." ;;
    *:no-port) echo "no port from 5510 to 5515 is free." ;;
    *:port-moved) echo "port $2 is used by another program (Active Backup uses 5510); Dozo answers on $3 instead." ;;
    *:full) echo "the volume of $2 is full, or its quota is used up. Free some space and start the package again; nothing was lost." ;;
    *:newer) echo "the settings in $2 are those of a newer version. Install that one again; nothing was changed." ;;
    *:disabled) echo "Dozo is disabled in App Center." ;;
    *:no-volume) echo "The volume with the settings is not there: $2. Unlock it, and start Dozo in App Center." ;;
    *:no-start) echo "the server does not start. The end of $2:" ;;
  esac
}
