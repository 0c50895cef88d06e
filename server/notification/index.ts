export { composeMessage, composeTest, type Reader } from './compose-message.ts';
export { deliverMail, type MailServer } from './deliver-mail.ts';
export { deliverWebhook, signWebhook } from './deliver-webhook.ts';
export type { Message } from './message.ts';
export type { CatalogueNotice, DigestJob, DigestNotice, MachineNotice, Notice, RunNotice } from './notice.ts';
export { renderHtml } from './render-html.ts';
export { renderReport } from './render-report.ts';
export { renderText } from './render-text.ts';
export { renderWebhook } from './render-webhook.ts';
