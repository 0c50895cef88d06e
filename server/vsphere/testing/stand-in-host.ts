import { createHash, randomBytes } from 'node:crypto';
import { createServer, type Server, type ServerOptions } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { generate } from 'selfsigned';

const PASSWORD = 'päss <w&rd>';

/** What a scripted operation answers: the inside of its reply, a fault, or a broken exchange. */
export type Scripted =
  | { returnval: string }
  | { fault: string; text?: string; inside?: string }
  | { status: number; html: string }
  | { cut: 'before' | 'inside' };

export interface SeenCall {
  operation: string;
  body: string;
}

/**
 * For this room's tests: an HTTPS server that answers as a host's `/sdk` and `/folder` do in the cases
 * that a test scripts, and refuses what a host refuses: calls without a session, objects without a
 * type, wrong passwords. It has no inventory; the simulated host of the integration tests has.
 */
export class StandInHost {
  readonly user = 'root';
  readonly password = PASSWORD;
  readonly calls: SeenCall[] = [];
  readonly sockets = new Set<Socket>();
  /** TLS sessions that carried any request at all. */
  requests = 0;
  apiType = 'HostAgent';
  certificate = '';
  port = 0;
  script = new Map<string, (body: string) => Scripted>();
  folder: (request: IncomingMessage, response: ServerResponse) => void = (_request, response) => {
    response.writeHead(404).end();
  };
  #sessions = new Set<string>();
  #server: Server | undefined;

  async start(options: ServerOptions = {}): Promise<this> {
    const made = await generate([{ name: 'commonName', value: 'esxi.example' }], {
      keyType: 'rsa',
      algorithm: 'sha256',
    });
    const der = Buffer.from(made.cert.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
    this.certificate = createHash('sha256').update(der).digest('hex');
    this.#server = createServer({ key: made.private, cert: made.cert, ...options }, (request, response) => {
      this.requests += 1;
      if (request.url?.startsWith('/folder/') === true) this.folder(request, response);
      else void this.#soap(request, response);
    });
    this.#server.on('connection', (socket: Socket) => {
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket));
    });
    await new Promise<void>((resolve) => this.#server?.listen(0, '127.0.0.1', resolve));
    this.port = (this.#server.address() as AddressInfo).port;
    return this;
  }

  stop(): void {
    this.#server?.close();
    this.#server?.closeAllConnections();
  }

  /** As a host does with sessions that were idle for half an hour. */
  forgetSessions(): void {
    this.#sessions.clear();
  }

  hasSession(request: IncomingMessage): boolean {
    const cookie = /vmware_soap_session="?([0-9a-f]+)"?/.exec(request.headers.cookie ?? '')?.[1];
    return cookie !== undefined && this.#sessions.has(cookie);
  }

  count(operation: string): number {
    return this.calls.filter((call) => call.operation === operation).length;
  }

  async #soap(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString('utf8');
    const operation = /Body>\s*<(?:\w+:)?(\w+)/.exec(body)?.[1] ?? '';
    this.calls.push({ operation, body });
    const answer = this.#answer(operation, body, request, response);
    if ('cut' in answer) {
      if (answer.cut === 'inside') {
        response.writeHead(200, { 'content-type': 'text/xml', 'content-length': '5000' });
        response.write('<?xml version="1.0"?><Envelope>', () => request.socket.destroy());
      } else request.socket.destroy();
    } else if ('html' in answer) response.writeHead(answer.status, { 'content-type': 'text/html' }).end(answer.html);
    else if ('fault' in answer)
      response.writeHead(500, { 'content-type': 'text/xml; charset=utf-8' }).end(faultReply(answer));
    else response.writeHead(200, { 'content-type': 'text/xml; charset=utf-8' }).end(reply(operation, answer.returnval));
  }

  #answer(operation: string, body: string, request: IncomingMessage, response: ServerResponse): Scripted {
    if (request.url !== '/sdk' || !/^"?urn:vim25\/[\d.]+"?$/.test(String(request.headers['soapaction']))) {
      return { status: 404, html: 'Not found' };
    }
    const target = /<(?:\w+:)?_this type="(\w+)"[^>]*>([^<]+)</.exec(body);
    if (target === null) return { fault: 'ManagedObjectNotFound', text: 'managed object not found' };
    const scripted = this.script.get(operation);
    if (operation === 'RetrieveServiceContent') return scripted?.(body) ?? { returnval: serviceContent(this.apiType) };
    if (operation === 'Login') {
      if (scripted !== undefined) return scripted(body);
      const password = /password>([^<]*)</.exec(body)?.[1];
      const wanted = PASSWORD.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
      if (password !== wanted)
        return { fault: 'InvalidLogin', text: 'Cannot complete login due to an incorrect user name or password.' };
      const session = randomBytes(20).toString('hex');
      this.#sessions.add(session);
      response.setHeader('set-cookie', `vmware_soap_session="${session}"; Path=/; HttpOnly; Secure;`);
      return { returnval: '<key>1</key><userName>root</userName><fullName>Administrator</fullName>' };
    }
    if (!this.hasSession(request)) return { fault: 'NotAuthenticated', text: 'The session is not authenticated.' };
    return (
      scripted?.(body) ?? (operation === 'Logout' ? { returnval: '' } : { fault: 'NotSupported', text: 'not scripted' })
    );
  }
}

function serviceContent(apiType: string): string {
  return `<rootFolder type="Folder">ha-folder-root</rootFolder><propertyCollector type="PropertyCollector">ha-property-collector</propertyCollector><viewManager type="ViewManager">ViewManager</viewManager><about><name>VMware ESXi</name><fullName>VMware ESXi 8.0.3 build-24674464</fullName><vendor>VMware, Inc.</vendor><version>8.0.3</version><build>24674464</build><productLineId>embeddedEsx</productLineId><apiType>${apiType}</apiType><apiVersion>8.0.3.0</apiVersion></about><sessionManager type="SessionManager">ha-sessionmgr</sessionManager>`;
}

const HEAD =
  '<?xml version="1.0" encoding="UTF-8"?>\n<soapenv:Envelope xmlns:soapenc="http://schemas.xmlsoap.org/soap/encoding/" xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n<soapenv:Body>\n';
const TAIL = '\n</soapenv:Body>\n</soapenv:Envelope>';

/** A reply in a real host's layout. */
export function reply(operation: string, returnval: string): string {
  const attributes = operation.endsWith('_Task')
    ? ' type="Task"'
    : operation.endsWith('View')
      ? ' type="ContainerView"'
      : '';
  const inside = returnval === '' ? '' : `<returnval${attributes}>${returnval}</returnval>`;
  return `${HEAD}<${operation}Response xmlns="urn:vim25">${inside}</${operation}Response>${TAIL}`;
}

export function faultReply(fault: { fault: string; text?: string; inside?: string }): string {
  return `${HEAD}<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>${fault.text ?? ''}</faultstring><detail><${fault.fault}Fault xmlns="urn:vim25" xsi:type="${fault.fault}">${fault.inside ?? ''}</${fault.fault}Fault></detail></soapenv:Fault>${TAIL}`;
}
