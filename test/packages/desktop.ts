import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium, type BrowserContext, type FrameLocator, type Page } from 'playwright-core';
import { generate } from 'selfsigned';
import { WindowApi } from './window-api.ts';

/** As the relay of QuickConnect names a NAS. */
export const QUICKCONNECT_HOST = 'nas.de7.quickconnect.to';
const CHROMIUM = process.env['DOZO_CHROMIUM'] ?? '/usr/bin/chromium';

/**
 * The web server of a NAS (Debian's nginx) and a browser, in the network of a running root: they see what
 * a machine beside the NAS would see, and nothing else sees them.
 */
export class Desktop {
  readonly #pid: number;
  readonly folder = mkdtempSync(join(tmpdir(), 'dozo-desktop-'));

  /** @param pid of a process in the network of the root */
  constructor(pid: number) {
    this.#pid = pid;
    chmodSync(this.folder, 0o755);
  }

  /** @param server what stands in `http { … }`; `@FOLDER@` is a folder with key.pem and certificate.pem */
  async serve(server: string, files: Record<string, string>): Promise<void> {
    const { private: key, cert } = await generate([{ name: 'commonName', value: 'nas' }], { keySize: 2048 });
    this.write('key.pem', key);
    this.write('certificate.pem', cert);
    for (const [name, text] of Object.entries(files)) this.write(name, text);
    const configuration = `
      pid @FOLDER@/nginx.pid; error_log @FOLDER@/error.log; worker_processes 1; daemon on;
      events { worker_connections 64; }
      http {
        access_log off; types { text/html html; text/javascript js; application/json json; image/png png; }
        client_body_temp_path @FOLDER@/body; proxy_temp_path @FOLDER@/proxy; fastcgi_temp_path @FOLDER@/f;
        uwsgi_temp_path @FOLDER@/u; scgi_temp_path @FOLDER@/s;
        ${server}
      }`;
    this.write('nginx.conf', configuration.replaceAll('@FOLDER@', this.folder));
    this.#inNetwork('/usr/sbin/nginx', '-t', '-q', '-c', join(this.folder, 'nginx.conf'));
    this.#inNetwork('/usr/sbin/nginx', '-c', join(this.folder, 'nginx.conf'));
  }

  /** A page with what its console complained about, besides the answers that a login begins with. */
  async browse(
    cookies: { url: string; values: Record<string, string> },
    visit: (page: Page, context: BrowserContext) => Promise<void>,
  ): Promise<string[]> {
    const program = join(this.folder, 'chromium');
    writeFileSync(program, `#!/bin/sh\nexec nsenter -t ${this.#pid} -n '${CHROMIUM}' "$@"\n`, { mode: 0o755 });
    const browser = await chromium.launch({
      executablePath: program,
      timeout: 180_000,
      args: [
        ...['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
        `--host-resolver-rules=MAP ${QUICKCONNECT_HOST} 127.0.0.1`,
      ],
    });
    const complaints: string[] = [];
    try {
      const context = await browser.newContext({
        ignoreHTTPSErrors: true,
        locale: process.env['DOZO_LOCALE'] ?? 'de-DE',
        viewport: { width: 1280, height: 720 },
      });
      await context.addCookies(
        Object.entries(cookies.values).map(([name, value]) => ({ name, value, url: cookies.url })),
      );
      const page = await context.newPage();
      page.setDefaultTimeout(180_000);
      page.on('pageerror', (error) => complaints.push(`error: ${error.message}`));
      page.on('console', (message) => {
        const isLogin = /api\/v1\/session/.test(message.location().url) && /\b401\b/.test(message.text());
        // The browser's own giving up on a connection of a busy machine; a file that is missing is an answer.
        const isBusy = message.text().includes('net::ERR_TOO_MANY_RETRIES');
        if (['error', 'warning'].includes(message.type()) && !isLogin && !isBusy) {
          complaints.push(`${message.text()} ${message.location().url}`);
        }
      });
      page.on('response', (response) => {
        const isLogin = /api\/v1\/session/.test(response.url()) && response.status() === 401;
        if (response.status() >= 400 && !isLogin) complaints.push(`${response.status()} ${response.url()}`);
      });
      await visit(page, context);
    } finally {
      await browser.close();
    }
    return complaints;
  }

  /** Keeps a picture where DOZO_SCREENSHOTS names a folder. */
  async picture(page: Page, name: string): Promise<void> {
    const folder = process.env['DOZO_SCREENSHOTS'];
    if (folder === undefined) return;
    mkdirSync(folder, { recursive: true });
    await page.screenshot({ path: join(folder, `${name}.png`) });
  }

  write(name: string, text: string): void {
    writeFileSync(join(this.folder, name), text, { mode: 0o644 });
  }

  async close(): Promise<void> {
    // By its id: what its configuration includes may be gone by now.
    const pidFile = join(this.folder, 'nginx.pid');
    if (existsSync(pidFile)) {
      const pid = Number(readFileSync(pidFile, 'utf8'));
      process.kill(pid, 'SIGTERM');
      // Until then its workers still make files.
      while (existsSync(pidFile) && existsSync(`/proc/${pid}`)) await sleep(50);
    }
    rmSync(this.folder, { recursive: true, force: true });
  }

  #inNetwork(...command: string[]): void {
    execFileSync('nsenter', ['-t', String(this.#pid), '-n', ...command], { stdio: ['ignore', 'ignore', 'inherit'] });
  }
}

/** Waits for the heading of Dozo's window in a frame of the desktop, and gives it. */
export async function headingOf(frame: FrameLocator): Promise<string> {
  // Either the window of somebody who is signed in, or the form to do that.
  await frame.locator('nav, input[type=password]').first().waitFor({ state: 'attached' });
  const heading = frame.locator('h1').first();
  await heading.waitFor({ state: 'visible' });
  return (await heading.textContent()) ?? '';
}

/** Opens the window on DSM's desktop with the session of an administrator of the NAS. */
export async function inDsmWindow(desktop: Desktop, visit: (api: WindowApi) => Promise<void>): Promise<void> {
  const url = 'https://127.0.0.1:5001/';
  await desktop.browse({ url, values: { id: 'admin-session-1' } }, async (page) => {
    await page.goto(url);
    await headingOf(page.frameLocator('iframe'));
    const frame = await (await page.locator('iframe').elementHandle())?.contentFrame();
    if (frame === undefined || frame === null) throw new Error('the desktop has no window');
    await visit(new WindowApi(frame));
  });
}

/**
 * A desktop of DSM as far as a package sees it: reads the package's own `config`, loads its script over a stand-in
 * for DSM's Ext, and opens its window. The headers are those of DSM's web server.
 */
export const DSM_WEB_SERVER = (packageFolder: string): string => `
  server {
    listen 5000; listen 5001 ssl; server_name _;
    ssl_certificate @FOLDER@/certificate.pem; ssl_certificate_key @FOLDER@/key.pem;
    add_header X-Frame-Options SAMEORIGIN always;
    add_header X-Content-Type-Options nosniff always;
    add_header Content-Security-Policy "base-uri 'self'; connect-src * ; default-src 'self' 'unsafe-eval' 'unsafe-inline' data: blob: https://*.synology.com; font-src 'self' data:; form-action 'self'; frame-ancestors 'self'; frame-src 'self' data: blob: https://*.synology.com; img-src * data: blob:; script-src 'self' 'unsafe-eval' 'unsafe-inline' blob: data:; style-src 'self' 'unsafe-inline'" always;
    root @FOLDER@;
    location = /favicon.ico { return 204; }
    location = /webman/login.cgi { default_type application/json; return 200 '{"SynoToken":"token-1","result":"success","success":true}'; }
    location ~ ^/webman/3rdparty/.*/api/ { return 404; }
    location /webman/3rdparty/Dozo/ { alias ${packageFolder}/desktop/; }
    include ${packageFolder}/nginx/dozo.conf;
  }`;

/**
 * A relay as QuickConnect's in front of DSM's web server: TLS ends in it, the host has another name, and it gathers
 * answers unless it is told not to. One that `isDeaf` does so whatever it is told.
 */
export const QUICKCONNECT_RELAY = (options: { isDeaf: boolean }): string => `
  server {
    listen 127.0.0.1:${options.isDeaf ? 8444 : 8443} ssl; server_name ${QUICKCONNECT_HOST};
    ssl_certificate @FOLDER@/certificate.pem; ssl_certificate_key @FOLDER@/key.pem;
    location / {
      proxy_pass http://127.0.0.1:5000;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto https;
      ${options.isDeaf ? 'proxy_ignore_headers X-Accel-Buffering;' : ''}
    }
  }`;

export const DSM_DESKTOP = `<!doctype html><html><head><title>DSM</title></head><body>
<script>
  const classes = {};
  window.Ext = {
    apply: (to, from) => Object.assign(to, from),
    define: (name, members) => { classes[name] = members; },
  };
  fetch('/webman/3rdparty/Dozo/config').then((answer) => answer.json()).then((config) => {
    const [script, entries] = Object.entries(config)[0];
    const application = Object.entries(entries).find(([, entry]) => entry.type === 'app');
    const element = document.createElement('script');
    element.src = '/webman/3rdparty/Dozo/' + script;
    element.onload = () => {
      if (classes[application[0]].appWindowName !== application[1].appWindow) throw new Error('appWindow');
      const members = classes[application[1].appWindow];
      const made = Object.create(members);
      made.callParent = ([options]) => {
        const frame = document.createElement('div');
        frame.style.cssText = 'width:' + options.width + 'px;height:' + options.height + 'px;border:1px solid gray';
        frame.innerHTML = options.html;
        document.body.append(frame);
      };
      members.constructor.call(made, { appInstance: {} });
    };
    document.body.append(element);
  });
</script></body></html>`;

const QTS_LOCATIONS = `
    root @FOLDER@;
    location = /favicon.ico { return 204; }
    location = /cgi-bin/authLogin.cgi {
      default_type text/xml;
      if ($arg_sid = admin1) { return 200 '<QDocRoot><authPassed><![CDATA[1]]></authPassed><isAdmin><![CDATA[1]]></isAdmin><username>alice</username></QDocRoot>'; }
      if ($arg_sid = plain1) { return 200 '<QDocRoot><authPassed>1</authPassed><isAdmin>0</isAdmin><username>bob</username></QDocRoot>'; }
      return 200 '<QDocRoot><authPassed>0</authPassed></QDocRoot>';
    }
    location ~ ^/dozo/?(.*)$ {
      add_header Content-Security-Policy "script-src 'self' 'unsafe-inline' 'unsafe-eval'; object-src 'self'; worker-src 'self' blob:" always;
      proxy_pass http://127.0.0.1:15510/dozo//$1$is_args$args;
      proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header Upgrade ""; proxy_set_header Connection "";
      proxy_buffering off;
    }`;

/**
 * The web server of QTS with its proxy: keeps the prefix, doubles the slash behind it, adds a policy of its own, tells
 * nothing of the browser. \`authLogin.cgi\` knows one session of an administrator and one of somebody else.
 */
export const QTS_WEB_SERVER = `
  server {
    listen 127.0.0.1:8080; server_name _;
    ${QTS_LOCATIONS}
  }`;

/** As in the settings of the imitated NAS. */
export const QTS_TLS_PORT = 4443;

/** The same with "Force secure connection (HTTPS) only". */
export const QTS_WEB_SERVER_FORCED = `
  server { listen 127.0.0.1:8080; server_name _; return 302 https://$host:${QTS_TLS_PORT}$request_uri; }
  server {
    listen 127.0.0.1:${QTS_TLS_PORT} ssl; server_name _;
    ssl_certificate @FOLDER@/certificate.pem; ssl_certificate_key @FOLDER@/key.pem;
    ${QTS_LOCATIONS}
  }`;

export const QTS_DESKTOP = `<!doctype html><html><head><title>QTS</title></head><body>
<iframe src="/dozo" width="1178" height="600" style="border:1px solid gray"></iframe></body></html>`;
