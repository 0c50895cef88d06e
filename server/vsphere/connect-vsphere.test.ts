import assert from 'node:assert/strict';
import type { IncomingHttpHeaders } from 'node:http';
import { Agent, get, request } from 'node:https';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { isAppError } from '../errors/index.ts';
import { connectVsphere, type VsphereClient, type VsphereOptions } from './index.ts';
import { PinnedAgent } from './pinned-agent.ts';
import { SoapTunnel } from './soap-tunnel.ts';
import { StandInHost, type Scripted } from './testing/stand-in-host.ts';

const hasCode =
  (code: string, details: Record<string, unknown> = {}) =>
  (error: unknown): boolean => {
    assert.ok(isAppError(error), `an AppError, not ${String(error)}`);
    assert.equal(error.code, code, error.message);
    for (const [name, value] of Object.entries(details)) assert.equal(error.details[name], value);
    return true;
  };

const machine = { type: 'VirtualMachine', value: '12' };
const snapshot = { type: 'VirtualMachineSnapshot', value: '12-snapshot-3' };
const options = (host: StandInHost, changes: Partial<VsphereOptions> = {}): VsphereOptions => ({
  host: '127.0.0.1',
  port: host.port,
  user: host.user,
  password: host.password,
  certificate: null,
  ...changes,
});
const taskInfo = (inside: string): Scripted => ({
  returnval: `<objects><obj type="Task">haTask-1</obj><propSet><name>info</name><val xsi:type="TaskInfo"><key>haTask-1</key>${inside}</val></propSet></objects>`,
});
const taskError = (fault: string, message: string): string =>
  `<state>error</state><error><fault xsi:type="${fault}"></fault><localizedMessage>${message}</localizedMessage></error>`;

describe('connecting', () => {
  const host = new StandInHost();
  before(async () => void (await host.start()));
  after(() => host.stop());
  beforeEach(() => {
    host.calls.length = 0;
    host.requests = 0;
    host.script.clear();
    host.apiType = 'HostAgent';
  });

  test('logs in, tells who it is, and leaves this process as it was', async () => {
    const environment = { ...process.env };
    const listeners = process.listenerCount('beforeExit');
    process.on('beforeExit', noop);

    const client = await connectVsphere(options(host));

    assert.equal(client.certificate, host.certificate);
    assert.deepEqual(client.about, {
      fullName: 'VMware ESXi 8.0.3 build-24674464',
      version: '8.0.3',
      build: '24674464',
      apiType: 'HostAgent',
      productLineId: 'embeddedEsx',
    });
    assert.ok(client.wireBytes() > 2_000);
    await client.close();
    assert.deepEqual({ ...process.env }, environment);
    assert.equal(process.env['NODE_TLS_REJECT_UNAUTHORIZED'], undefined);
    assert.equal(process.listenerCount('beforeExit'), listeners + 1);
    process.off('beforeExit', noop);
    assert.deepEqual(
      host.calls.map((call) => call.operation),
      ['RetrieveServiceContent', 'Login', 'RetrieveServiceContent', 'Logout'],
    );
  });

  test('tries a wrong password once and does not repeat it', async () => {
    await assert.rejects(connectVsphere(options(host, { password: 'wrong-secret' })), (error) => {
      hasCode('HOST_LOGIN_REFUSED')(error);
      assert.doesNotMatch(JSON.stringify(error), /wrong-secret/);
      return true;
    });
    assert.equal(host.count('Login'), 1);
  });

  test('sends nothing to a host whose certificate changed', async () => {
    await assert.rejects(
      connectVsphere(options(host, { certificate: 'ab'.repeat(32) })),
      hasCode('HOST_CERTIFICATE_CHANGED', { shown: host.certificate }),
    );
    assert.equal(host.requests, 0);

    const client = await connectVsphere(options(host, { certificate: host.certificate }));
    await client.close();
  });

  test('lets go of a session that nobody uses, and logs in again when it is needed', async () => {
    const client = await connectVsphere(options(host, { idleMs: 20 }));
    await until(() => host.count('Logout') === 1);
    host.script.set('RetrievePropertiesEx', () => ({ returnval: '' }));
    await client.retrieveOne({ type: 'HostSystem', value: 'ha-host' }, ['name']).catch(() => undefined);
    assert.equal(host.count('Login'), 2);
    await until(() => host.count('Logout') === 2);

    host.script.set('Login', () => ({ fault: 'InvalidLogin', text: 'Cannot complete login.' }));
    for (let attempt = 0; attempt < 3; attempt += 1) {
      await assert.rejects(client.licenses(), hasCode('HOST_LOGIN_REFUSED'));
    }
    assert.equal(host.count('Login'), 3);
    await client.close();
  });

  test('keeps its session for reads of datastores', async () => {
    host.folder = (_request, response) => void response.writeHead(206, { 'content-range': 'bytes 0-0/1' }).end('x');
    const client = await connectVsphere(options(host, { idleMs: 2_000 }));
    await client.folder.readRange('ds', 'a', { offsetBytes: 0, lengthBytes: 1 }).catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    assert.equal(host.count('Logout'), 0);
    await client.close();
  });

  test('tells lockdown and a vCenter', async () => {
    host.script.set('Login', () => ({
      fault: 'NoPermission',
      text: 'Permission to perform this operation was denied.',
    }));
    await assert.rejects(connectVsphere(options(host)), hasCode('HOST_LOCKDOWN'));

    host.script.clear();
    host.apiType = 'VirtualCenter';
    await assert.rejects(connectVsphere(options(host)), hasCode('HOST_NOT_ESXI', { apiType: 'VirtualCenter' }));
  });

  test('tells other servers from a host, and a host whose agents are down', async () => {
    host.script.set('RetrieveServiceContent', () => ({ status: 404, html: '<html>Not found</html>' }));
    await assert.rejects(connectVsphere(options(host)), hasCode('HOST_NOT_ESXI'));

    host.script.set('RetrieveServiceContent', () => ({ status: 503, html: '<html>Service Unavailable</html>' }));
    await assert.rejects(connectVsphere(options(host)), hasCode('HOST_UNREACHABLE'));
  });

  test('an abort ends the attempt', async () => {
    await assert.rejects(connectVsphere(options(host, { signal: AbortSignal.abort() })), hasCode('CANCELLED'));
    await assert.rejects(connectVsphere(options(host, { signal: AbortSignal.timeout(5) })), hasCode('CANCELLED'));
  });
});

async function until(isReached: () => boolean): Promise<void> {
  for (let waits = 0; !isReached(); waits += 1) {
    assert.ok(waits < 9_000, 'it does not happen');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test('tells a refused port, an unknown name, a silent port and one without TLS', async () => {
  const host = new StandInHost();
  const silent = await listen(createServer(() => undefined));
  const plain = await listen(createServer((socket) => void socket.end('SSH-2.0-OpenSSH_9.2\r\n')));
  const closed = await listen(createServer());
  await new Promise((resolve) => closed.server.close(resolve));

  await assert.rejects(connectVsphere(options(host, { port: closed.port })), hasCode('HOST_PORT_REFUSED'));
  await assert.rejects(
    connectVsphere(options(host, { port: 443, host: 'no-such-host.invalid' })),
    hasCode('HOST_NAME_UNKNOWN'),
  );
  await assert.rejects(
    connectVsphere(options(host, { port: silent.port, connectTimeoutMs: 200 })),
    hasCode('HOST_UNREACHABLE'),
  );
  await assert.rejects(connectVsphere(options(host, { port: plain.port })), hasCode('HOST_NOT_ESXI'));

  silent.server.close();
  plain.server.close();
});

test('reaches a host that knows nothing newer than TLS 1.0', async () => {
  const old = await new StandInHost().start({
    minVersion: 'TLSv1',
    maxVersion: 'TLSv1',
    ciphers: 'DEFAULT:@SECLEVEL=0',
  });

  const client = await connectVsphere(options(old));

  assert.equal(client.about.version, '8.0.3');
  await client.close();
  old.stop();
});

describe('calling', () => {
  const host = new StandInHost();
  let client: VsphereClient;
  before(async () => {
    await host.start();
    client = await connectVsphere(options(host));
  });
  after(async () => {
    await client.close();
    host.stop();
  });
  beforeEach(() => {
    host.calls.length = 0;
    host.script.clear();
    host.script.set('CreateContainerView', () => ({ returnval: 'session[1]view-1' }));
    host.script.set('DestroyView', () => ({ returnval: '' }));
    host.script.set('CreateSnapshot_Task', () => ({ returnval: 'haTask-1' }));
    host.script.set('RemoveSnapshot_Task', () => ({ returnval: 'haTask-1' }));
  });

  test('follows pages to the end and destroys its view', async () => {
    const page = (from: number, count: number, token: string | null): Scripted => ({
      returnval: `${token === null ? '' : `<token>${token}</token>`}${Array.from(
        { length: count },
        (_, index) =>
          `<objects><obj type="VirtualMachine">${from + index}</obj><propSet><name>name</name><val xsi:type="xsd:string">vm ${from + index}</val></propSet><missingSet><path>snapshot</path><fault><fault xsi:type="NotSupported"></fault></fault></missingSet></objects>`,
      ).join('')}`,
    });
    host.script.set('RetrievePropertiesEx', () => page(0, 100, 'a &amp; b'));
    host.script.set('ContinueRetrievePropertiesEx', (body) =>
      body.includes('a &amp; b') ? page(100, 100, 'c') : page(200, 7, null),
    );

    const machines = await client.retrieve('VirtualMachine', ['name', 'snapshot']);

    assert.equal(machines.length, 207);
    assert.deepEqual(machines[206], {
      reference: { type: 'VirtualMachine', value: '206' },
      properties: { name: 'vm 206' },
    });
    assert.deepEqual(
      host.calls.map((call) => call.operation),
      [
        'CreateContainerView',
        'RetrievePropertiesEx',
        'ContinueRetrievePropertiesEx',
        'ContinueRetrievePropertiesEx',
        'DestroyView',
      ],
    );
  });

  test('destroys its view when the reading fails', async () => {
    host.script.set('RetrievePropertiesEx', () => ({ fault: 'InvalidProperty', text: 'no such property' }));

    await assert.rejects(
      client.retrieve('VirtualMachine', ['nme']),
      hasCode('SOAP_FAULT', { fault: 'InvalidProperty' }),
    );
    assert.equal(host.count('DestroyView'), 1);
  });

  test('gives nothing for a host without objects', async () => {
    host.script.set('RetrievePropertiesEx', () => ({ returnval: '' }));

    assert.deepEqual(await client.retrieve('VirtualMachine', ['name']), []);
  });

  test('waits for a task through queued and running', async () => {
    const states = [
      '<state>queued</state>',
      '<state>running</state>',
      '<state>running</state><progress>40</progress>',
      '<state>success</state><result type="VirtualMachineSnapshot" xsi:type="ManagedObjectReference">12-snapshot-9</result>',
    ];
    host.script.set('RetrievePropertiesEx', () => taskInfo(states.shift() ?? ''));

    const made = await client.createSnapshot(machine, {
      name: `dozo-1 "<&>'`,
      description: '仮想',
      memory: false,
      quiesce: true,
    });

    assert.deepEqual(made, { type: 'VirtualMachineSnapshot', value: '12-snapshot-9' });
    const sent = host.calls.find((call) => call.operation === 'CreateSnapshot_Task')?.body ?? '';
    assert.match(sent, /<(\w+:)?_this type="VirtualMachine">12</);
    assert.match(sent, /name>dozo-1 (&quot;|")&lt;&amp;(&gt;|>)(&apos;|')</);
    assert.match(sent, /description>仮想<.*memory>false<.*quiesce>true</);
    assert.match(sent, /_this.*name.*description.*memory.*quiesce/);
  });

  test('names the licence, in a fault and in a task', async () => {
    host.script.set('CreateSnapshot_Task', () => ({
      fault: 'RestrictedVersion',
      text: 'Current license or ESXi version prohibits execution of the requested operation.',
    }));
    const wanted = { name: 'a', description: '', memory: false, quiesce: false };
    await assert.rejects(client.createSnapshot(machine, wanted), hasCode('HOST_LICENSE_REFUSES'));
    assert.equal(host.count('CreateSnapshot_Task'), 1);

    host.script.set('RetrievePropertiesEx', () =>
      taskInfo(taskError('RestrictedVersion', 'Current license prohibits')),
    );
    await assert.rejects(client.removeSnapshot(snapshot), hasCode('HOST_LICENSE_REFUSES'));
  });

  test('names a missing role, and passes other faults with their type', async () => {
    host.script.set('CreateSnapshot_Task', () => ({ fault: 'NoPermission', text: 'denied' }));
    const wanted = { name: 'a', description: '', memory: false, quiesce: false };
    await assert.rejects(client.createSnapshot(machine, wanted), hasCode('HOST_NOT_ADMINISTRATOR'));

    host.script.set('RetrievePropertiesEx', () => taskInfo(taskError('ApplicationQuiesceFault', 'cannot quiesce')));
    await assert.rejects(
      client.removeSnapshot(snapshot),
      hasCode('SOAP_FAULT', { fault: 'ApplicationQuiesceFault', operation: 'RemoveSnapshot_Task' }),
    );
  });

  test('an abort ends the waiting for a task', async () => {
    host.script.set('RetrievePropertiesEx', () => taskInfo('<state>running</state>'));

    await assert.rejects(client.removeSnapshot(snapshot, AbortSignal.timeout(150)), hasCode('CANCELLED'));
  });

  test('logs in again, once, when the session has ended, and repeats what the host did not do', async () => {
    host.script.set('RetrievePropertiesEx', () => taskInfo('<state>success</state>'));
    host.forgetSessions();

    await client.removeSnapshot(snapshot);

    assert.equal(host.count('Login'), 1);
    assert.equal(host.count('RemoveSnapshot_Task'), 2);
  });

  test('gives up when the session ends again and again', async () => {
    host.script.set('RemoveSnapshot_Task', () => ({
      fault: 'NotAuthenticated',
      text: 'The session is not authenticated.',
    }));

    await assert.rejects(client.removeSnapshot(snapshot), hasCode('SOAP_FAULT', { fault: 'NotAuthenticated' }));
    assert.equal(host.count('Login'), 1);
    assert.equal(host.count('RemoveSnapshot_Task'), 2);
  });

  test('repeats a read whose connection broke, never a write', async () => {
    let cuts = 0;
    host.script.set('RetrievePropertiesEx', () => {
      cuts += 1;
      return cuts === 1
        ? { cut: 'inside' }
        : {
            returnval:
              '<objects><obj type="VirtualMachine">12</obj><propSet><name>name</name><val xsi:type="xsd:string">a</val></propSet></objects>',
          };
    });
    assert.equal((await client.retrieveOne(machine, ['name'])).properties['name'], 'a');

    host.script.set('RemoveSnapshot_Task', () => ({ cut: 'before' }));
    await assert.rejects(client.removeSnapshot(snapshot), hasCode('HOST_CONNECTION_LOST'));
    assert.equal(host.count('RemoveSnapshot_Task'), 1);
  });

  test('reads a change map to the byte, and one without changes', async () => {
    host.script.set('QueryChangedDiskAreas', () => ({
      returnval:
        '<startOffset>4294967296</startOffset><length>8796093022208</length><changedArea><start>4294967296</start><length>65536</length></changedArea><changedArea><start>6597069766656</start><length>1048576</length></changedArea>',
    }));
    const wanted = { machine, snapshot, deviceKey: 2000, startOffsetBytes: 4_294_967_296, changeId: '52 2d/7' };

    const reply = await client.queryChangedDiskAreas(wanted);

    assert.deepEqual(reply, {
      startOffsetBytes: 4_294_967_296,
      lengthBytes: 8_796_093_022_208,
      areas: [
        { offsetBytes: 4_294_967_296, lengthBytes: 65_536 },
        { offsetBytes: 6_597_069_766_656, lengthBytes: 1_048_576 },
      ],
    });
    const sent = host.calls[0]?.body ?? '';
    assert.match(
      sent,
      /snapshot type="VirtualMachineSnapshot">12-snapshot-3<.*deviceKey>2000<.*startOffset>4294967296<.*changeId>52 2d\/7</,
    );

    host.script.set('QueryChangedDiskAreas', () => ({
      returnval: '<startOffset>0</startOffset><length>1024</length>',
    }));
    const none = await client.queryChangedDiskAreas({ ...wanted, snapshot: null });
    assert.deepEqual(none, { startOffsetBytes: 0, lengthBytes: 1024, areas: [] });
    assert.doesNotMatch(host.calls[1]?.body ?? '', /snapshot/);
  });

  test('refuses numbers in a change map that it cannot hold exactly', async () => {
    for (const broken of ['9007199254740993', '-1', 'many', '1.5']) {
      host.script.set('QueryChangedDiskAreas', () => ({
        returnval: `<startOffset>0</startOffset><length>${broken}</length>`,
      }));
      await assert.rejects(
        client.queryChangedDiskAreas({ machine, snapshot, deviceKey: 2000, startOffsetBytes: 0, changeId: '*' }),
        hasCode('HOST_ANSWER_UNREADABLE'),
      );
    }
  });

  test('names why changes are not tracked', async () => {
    host.script.set('QueryChangedDiskAreas', () => ({
      fault: 'FileFault',
      text: 'Error caused by file /vmfs/volumes/x/y.vmdk',
      inside: '<faultMessage><key>vim.hostd.vmsvc.cbt.noTrack</key></faultMessage><file>/vmfs/volumes/x/y.vmdk</file>',
    }));

    await assert.rejects(
      client.queryChangedDiskAreas({ machine, snapshot, deviceKey: 2000, startOffsetBytes: 0, changeId: '*' }),
      hasCode('SOAP_FAULT', { fault: 'FileFault', key: 'vim.hostd.vmsvc.cbt.noTrack', file: '/vmfs/volumes/x/y.vmdk' }),
    );
  });

  test('answers many calls at once, each its own', async () => {
    host.script.set('RetrievePropertiesEx', (body) => {
      const id = /obj type="VirtualMachine">(\d+)</.exec(body)?.[1] ?? '';
      return Number(id) % 5 === 0
        ? { fault: 'ManagedObjectNotFound', text: id }
        : {
            returnval: `<objects><obj type="VirtualMachine">${id}</obj><propSet><name>name</name><val xsi:type="xsd:string">${id}</val></propSet></objects>`,
          };
    });

    const results = await Promise.allSettled(
      Array.from(
        { length: 40 },
        async (_, index) => await client.retrieveOne({ type: 'VirtualMachine', value: String(index) }, ['name']),
      ),
    );

    results.forEach((result, index) => {
      if (index % 5 === 0) {
        assert.equal(result.status, 'rejected');
        hasCode('SOAP_FAULT', { fault: 'ManagedObjectNotFound' })(result.reason);
        assert.match(String(result.reason), new RegExp(`: ${index}$`));
      } else {
        assert.equal(result.status, 'fulfilled');
        assert.equal(result.value.properties['name'], String(index));
      }
    });
  });

  test('refuses calls after close', async () => {
    const other = await connectVsphere(options(host));
    await other.close();

    await assert.rejects(other.lockdownMode(), hasCode('CANCELLED'));
    await delay(20);
    assert.equal(host.count('Logout'), 1);
  });
});

async function openTunnel(): Promise<SoapTunnel> {
  const agent = new PinnedAgent({
    host: '127.0.0.1',
    port: 1,
    certificate: null,
    connectTimeoutMs: 100,
  });
  return await SoapTunnel.open({ host: '127.0.0.1', port: 1, agent }, 1_000);
}

test('the tunnel ends no connection that its client keeps', async (context) => {
  const tunnel = await openTunnel();
  const agent = new Agent({ keepAlive: true });
  context.after(() => {
    agent.destroy();
    tunnel.close();
  });
  const url = `https://${tunnel.address}/sdk/vimService.wsdl`;
  const headers = await new Promise<IncomingHttpHeaders>((resolve, reject) => {
    get(url, { agent, rejectUnauthorized: false }, (response) => {
      response.resume();
      resolve(response.headers);
    }).on('error', reject);
  });
  assert.equal(headers.connection, 'keep-alive');
  // The time after which the server would end it.
  assert.equal(headers['keep-alive'], undefined);
});

test('the tunnel answers nobody who does not know its path', async () => {
  const tunnel = await openTunnel();
  const [place = '', token = ''] = tunnel.address.split('/');
  const [address, port] = place.split(':');
  const status = async (path: string): Promise<number> =>
    await new Promise((resolve, reject) => {
      request({ host: address, port, path, rejectUnauthorized: false, agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      })
        .on('error', reject)
        .end();
    });

  assert.equal(address, '127.0.0.1');
  assert.ok(token.length >= 32);
  assert.equal(await status(`/${token}/sdk/vimService.wsdl`), 200);
  for (const path of [
    '/',
    '/sdk',
    '/sdk/vimService.wsdl',
    `/${token}/`,
    `/${'0'.repeat(token.length)}/sdk/vimService.wsdl`,
  ]) {
    assert.equal(await status(path), 404);
  }
  tunnel.close();
});

function noop(): void {
  // Stands for a listener of the program, which must survive.
}

async function listen(server: Server): Promise<{ server: Server; port: number }> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, port: (server.address() as AddressInfo).port };
}
