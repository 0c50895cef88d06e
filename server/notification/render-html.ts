import { html, type Html } from './html.ts';
import type { Block, Fact, Message, Tone } from './message.ts';

/** Text on a light ground of its own: at least 4.5 : 1 each, also where a reader turns colours. */
const COLOURS: Record<Tone, { strong: string; soft: string }> = {
  good: { strong: '#1b6e43', soft: '#e5f3ea' },
  warning: { strong: '#8a5200', soft: '#fdf1dc' },
  bad: { strong: '#a8201a', soft: '#fbe6e4' },
  neutral: { strong: '#37506b', soft: '#e9eef4' },
};

const FONT = "font-family:-apple-system,'Segoe UI',Roboto,'Hiragino Sans','Noto Sans JP',Meiryo,Arial,sans-serif";

/**
 * A page for programs that read mail: one column that fits a phone, tables and inline styles since they know little
 * else, no pictures and nothing that is loaded from elsewhere.
 */
export function renderHtml(message: Message): string {
  const { strong } = COLOURS[message.tone];
  const { language, subject, heading, lead, facts, blocks, link, footer } = message;
  return html`<!doctype html>
    <html lang="${language}">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light" />
        <title>${subject}</title>
      </head>
      <body
        style="margin:0;padding:0;background:#eef1f4;color:#1d2733;${FONT};font-size:15px;line-height:1.5;-webkit-text-size-adjust:100%"
      >
        <table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0" style="background:#eef1f4">
          <tr>
            <td align="center" style="padding:12px">
              <table
                role="presentation"
                width="100%"
                cellpadding="0"
                cellspacing="0"
                border="0"
                style="max-width:600px;background:#ffffff;border-radius:8px"
              >
                <tr>
                  <td style="padding:20px;background:${strong};color:#ffffff;border-radius:8px 8px 0 0">
                    <div style="font-size:13px;color:#ffffff">Dozo</div>
                    <h1
                      style="margin:2px 0 0;font-size:20px;line-height:1.35;font-weight:600;color:#ffffff;overflow-wrap:anywhere"
                    >
                      <bdi>${heading}</bdi>
                    </h1>
                  </td>
                </tr>
                <tr>
                  <td style="padding:16px 20px 20px">
                    ${lead === '' ? '' : html`<p style="margin:0 0 12px;overflow-wrap:anywhere">${lead}</p>`}
                    ${renderFacts(facts)} ${blocks.map(renderBlock)} ${link === null ? '' : renderLink(link)}
                  </td>
                </tr>
              </table>
              <p
                style="max-width:560px;margin:12px auto 0;color:#56626f;font-size:12px;line-height:1.5;text-align:left"
              >
                ${footer}
              </p>
            </td>
          </tr>
        </table>
      </body>
    </html> `.source;
}

function renderBlock({ title, tone, badge, facts, remarks }: Block): Html {
  const { strong, soft } = COLOURS[tone];
  return html`<table
    role="presentation"
    width="100%"
    cellpadding="0"
    cellspacing="0"
    border="0"
    style="margin-top:14px;border:1px solid #d5dbe2;border-left:4px solid ${strong};border-radius:4px"
  >
    <tr>
      <td style="padding:10px 12px">
        <h2 style="margin:0 0 4px;font-size:16px;line-height:1.4;font-weight:600;overflow-wrap:anywhere">
          <bdi>${title}</bdi>${
            badge === null
              ? ''
              : html` <span
                  style="display:inline-block;padding:0 8px;border-radius:10px;background:${soft};color:${strong};font-size:13px;font-weight:600;white-space:nowrap"
                  >${badge}</span
                >`
          }
        </h2>
        ${remarks.map((remark) => html`<p style="margin:4px 0;overflow-wrap:anywhere">${remark}</p>`)}
        ${renderFacts(facts)}
      </td>
    </tr>
  </table>`;
}

/** Short values beside their label, long ones below it: a hash beside a label leaves no room on a phone. */
function renderFacts(facts: readonly Fact[]): Html | string {
  if (facts.length === 0) return '';
  return html`<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0" style="font-size:14px">
    ${facts.map(({ label, value, isCode }) =>
      isCode === true
        ? html`<tr>
            <td colspan="2" style="padding:3px 0;color:#56626f">
              ${label}
              <div
                style="color:#1d2733;font-family:Consolas,Menlo,monospace;font-size:12px;overflow-wrap:anywhere;word-break:break-all"
              >
                ${value}
              </div>
            </td>
          </tr>`
        : html`<tr>
            <td style="padding:3px 12px 3px 0;color:#56626f;vertical-align:top;width:42%">${label}</td>
            <td style="padding:3px 0;vertical-align:top;overflow-wrap:anywhere"><bdi>${value}</bdi></td>
          </tr>`,
    )}
  </table>`;
}

function renderLink({ label, url }: { label: string; url: string }): Html {
  return html`<p style="margin:20px 0 0">
    <a
      href="${url}"
      style="display:inline-block;padding:10px 18px;background:#20588f;color:#ffffff;border-radius:6px;text-decoration:none;font-weight:600"
      >${label}</a
    >
  </p>`;
}
