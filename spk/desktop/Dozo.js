/* The window on the desktop of DSM: a frame around Dozo's own window, of the same origin. */
Ext.define('SYNO.SDS.Dozo.Application', {
  extend: 'SYNO.SDS.AppInstance',
  appWindowName: 'SYNO.SDS.Dozo.MainWindow',
});

Ext.define('SYNO.SDS.Dozo.MainWindow', {
  extend: 'SYNO.SDS.AppWindow',
  constructor: function (config) {
    this.appInstance = config.appInstance;
    this.callParent([
      Ext.apply(
        {
          layout: 'fit',
          width: 1178,
          height: 640,
          minWidth: 400,
          minHeight: 400,
          resizable: true,
          maximizable: true,
          html:
            '<iframe title="Dozo" src="/webman/3rdparty/Dozo/app/index.html?version=@VERSION@"' +
            ' style="width:100%;height:100%;border:0"></iframe>',
        },
        config,
      ),
    ]);
  },
  onClose: function () {
    this.doClose();
    return true;
  },
});
