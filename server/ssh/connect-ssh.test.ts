import assert from 'node:assert/strict';
import { spawn, execFileSync, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { createRequire } from 'node:module';
import { queryObjects } from 'node:v8';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../../test/lab/free-port.ts';
import ssh2 from 'ssh2';
import { isAppError } from '../errors/index.ts';
import { connectSsh, isNativeCrypto, shell, type SshConnection, type SshOptions } from './index.ts';

const hasCode = (code: string) => (error: unknown) => {
  assert.ok(isAppError(error), `an AppError, not ${String(error)}`);
  assert.equal(error.code, code);
  return true;
};

/** OpenSSH's own server with public-key login, its own host key and a free port. */
class RealSshd {
  readonly folder = mkdtempSync(join(tmpdir(), 'dozo-sshd-'));
  port = 0;
  #child: ChildProcess | undefined;

  async start(extraConfig: string[] = []): Promise<void> {
    for (const name of ['host', 'client']) {
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(this.folder, name)]);
    }
    if (userInfo().uid === 0 && !existsSync('/run/sshd')) mkdirSync('/run/sshd', { mode: 0o755 });
    this.port = await freePort();
    writeFileSync(
      join(this.folder, 'config'),
      [
        `Port ${this.port}`,
        'ListenAddress 127.0.0.1',
        `HostKey ${join(this.folder, 'host')}`,
        `AuthorizedKeysFile ${join(this.folder, 'client.pub')}`,
        'PidFile none',
        'UsePAM no',
        'StrictModes no',
        'PermitRootLogin yes',
        'PasswordAuthentication no',
        ...extraConfig,
      ].join('\n'),
    );
    const sshd = ['/usr/sbin/sshd', '/sbin/sshd'].find((path) => existsSync(path)) ?? 'sshd';
    this.#child = spawn(sshd, ['-D', '-e', '-f', join(this.folder, 'config')], { stdio: 'ignore' });
    for (let attempt = 0; attempt < 1800; attempt += 1) {
      if (await answers(this.port)) return;
      await delay(50);
    }
    throw new Error('sshd did not start');
  }

  options(changes: Partial<SshOptions> = {}): SshOptions {
    return {
      host: '127.0.0.1',
      port: this.port,
      user: userInfo().username,
      privateKey: readFileSync(join(this.folder, 'client'), 'utf8'),
      hostKey: null,
      channelsMax: 4,
      ...changes,
    };
  }

  /** As ssh-keygen prints it. */
  fingerprint(): string {
    return execFileSync('ssh-keygen', ['-lf', join(this.folder, 'host.pub')], { encoding: 'utf8' }).split(' ')[1] ?? '';
  }

  stop(): void {
    this.#child?.kill('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A relay that can be cut, frozen and counted, between us and a server. */
class Relay {
  readonly #server: Server;
  readonly #pairs: [Socket, Socket][] = [];
  port = 0;
  bytes = 0;

  constructor(targetPort: number) {
    this.#server = createServer((near) => {
      const far = connect(targetPort, '127.0.0.1');
      this.#pairs.push([near, far]);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        from.on('error', () => to.destroy());
        from.on('close', () => to.destroy());
        from.on('data', (chunk) => (this.bytes += chunk.length));
        from.pipe(to);
      }
    });
  }

  async start(): Promise<void> {
    this.port = await listen(this.#server);
  }

  cut(): void {
    for (const [near, far] of this.#pairs) {
      near.resetAndDestroy();
      far.destroy();
    }
  }

  freeze(): void {
    for (const [near, far] of this.#pairs) {
      near.unpipe(far).pause();
      far.unpipe(near).pause();
    }
  }

  stop(): void {
    this.cut();
    this.#server.close();
  }
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

async function answers(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('data', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

test('uses the compiled ciphers', () => {
  assert.equal(isNativeCrypto(), true);
});

describe('on a real sshd', () => {
  const sshd = new RealSshd();
  let ssh: SshConnection;

  test('never has the compiled ciphers of a connection collected, which may abort the process', async () => {
    const binding = createRequire(import.meta.url)('ssh2/lib/protocol/crypto/build/Release/sshcrypto.node') as Record<
      'AESGCMCipher' | 'AESGCMDecipher',
      new () => object
    >;
    const count = (): number[] =>
      [binding.AESGCMCipher, binding.AESGCMDecipher].map((one) => Number(queryObjects(one, { format: 'count' })));
    const before = count();

    for (let n = 0; n < 3; n += 1) await (await connectSsh(sshd.options())).close();

    assert.deepEqual(
      count(),
      before.map((living) => living + 3),
    );
  });

  before(async () => {
    await sshd.start();
    ssh = await connectSsh(sshd.options());
  });
  after(async () => {
    await ssh.close();
    sshd.stop();
  });

  test('tells the fingerprint that ssh-keygen tells, and accepts it as a pin', async () => {
    assert.equal(ssh.hostKey, sshd.fingerprint());

    const pinned = await connectSsh(sshd.options({ hostKey: sshd.fingerprint() }));

    await pinned.close();
  });

  test('gives output, errors and status apart', async () => {
    const result = await ssh.exec(shell`echo out; echo err >&2; exit ${3}`);

    assert.equal(result.stdout.toString(), 'out\n');
    assert.equal(result.stderr, 'err\n');
    assert.equal(result.code, 3);
  });

  test('passes names with quotes, spaces and kanji whole', async () => {
    const name = `it's [a] "b" $HOME \`id\` 仮想 ü\n*`;

    const result = await ssh.exec(shell`printf %s ${name}`);

    assert.equal(result.stdout.toString('utf8'), name);
  });

  test('sends standard input whole', async () => {
    const input = randomBytes(5_000_000);

    const result = await ssh.exec(shell`sha256sum`, { stdin: input });

    assert.equal(result.stdout.toString().slice(0, 64), createHash('sha256').update(input).digest('hex'));
  });

  test('answers for a command that leaves its input unread', async () => {
    const result = await ssh.exec(shell`exit 7`, { stdin: randomBytes(8_000_000) });

    assert.equal(result.code, 7);
  });

  test('tells a command ended by a signal', async () => {
    const result = await ssh.exec(shell`kill -KILL $$`);

    assert.equal(result.code, null);
  });

  test('streams a big output byte for byte and then its status', async () => {
    const file = join(sshd.folder, 'big');
    const content = randomBytes(24_000_001);
    writeFileSync(file, content);

    const channel = await ssh.open(shell`dd if=${file} bs=1048576; exit 5`);
    const hash = createHash('sha256');
    for await (const chunk of channel.stdout) hash.update(chunk as Buffer);
    const exit = await channel.exit;

    assert.equal(hash.digest('hex'), createHash('sha256').update(content).digest('hex'));
    assert.equal(exit.code, 5);
    assert.match(exit.stderr, /24000001 bytes/);
  });

  test('streams to a command with its status', async () => {
    const file = join(sshd.folder, 'written');
    const content = randomBytes(9_000_001);

    const channel = await ssh.open(shell`cat > ${file}`);
    channel.stdout.resume();
    for (let offset = 0; offset < content.length; offset += 1_000_000) {
      if (!channel.stdin.write(content.subarray(offset, offset + 1_000_000))) {
        await new Promise((resolve) => channel.stdin.once('drain', resolve));
      }
    }
    channel.stdin.end();
    const exit = await channel.exit;

    assert.equal(exit.code, 0);
    assert.deepEqual(readFileSync(file), content);
  });

  test('fails a writer whose command ended early', async () => {
    const channel = await ssh.open(shell`head -c 10 >/dev/null; exit 4`);
    channel.stdout.resume();
    const failed = new Promise<unknown>((resolve) => channel.stdin.once('error', resolve));

    channel.stdin.write(randomBytes(30_000_000));

    assert.ok(hasCode('HOST_COMMAND_FAILED')(await failed));
    assert.equal((await channel.exit).code, 4);
  });

  test('holds no more than its buffers for a slow reader', async () => {
    const before = ssh.wireBytes();
    const channel = await ssh.open(shell`dd if=/dev/zero bs=1M count=200 2>/dev/null`);

    await delay(700);

    const arrived = ssh.wireBytes() - before;
    assert.ok(arrived < 5_000_000, `${arrived} bytes arrived unread`);
    channel.abort();
    await assert.rejects(channel.exit, hasCode('CANCELLED'));
  });

  test('runs no more commands at once than channels, and all of them', async () => {
    const folder = join(sshd.folder, 'running');
    mkdirSync(folder);
    const go = join(sshd.folder, 'go');
    const command = shell`touch ${folder}/$$; while ! [ -e ${go} ]; do sleep 0.05; done; ls ${folder} | wc -l; rm ${folder}/$$`;

    const running = Promise.all(Array.from({ length: 12 }, async () => await ssh.exec(command)));
    while (readdirSync(folder).length < 4) await delay(20);
    writeFileSync(go, '');
    const results = await running;

    const most = Math.max(...results.map((result) => Number(result.stdout.toString())));
    assert.equal(results.length, 12);
    assert.ok(most <= 4, `${most} at once`);
  });

  test('refuses output beyond the bound and stays usable', async () => {
    await assert.rejects(
      ssh.exec(shell`cat /dev/zero`, { outputBytesMax: 100_000 }),
      hasCode('HOST_ANSWER_UNREADABLE'),
    );

    assert.equal((await ssh.exec(shell`echo fine`)).stdout.toString(), 'fine\n');
  });

  test('keeps only the head of an endless standard error', async () => {
    const result = await ssh.exec(shell`head -c 3000000 /dev/zero >&2; echo done`);

    assert.equal(result.stdout.toString(), 'done\n');
    assert.equal(result.stderr.length, 65_536);
  });

  test('ends a command that takes too long, on the host too', async () => {
    const mark = join(sshd.folder, 'pid');

    // On a machine that stands still for a while it may not even have begun.
    for (let attempt = 0; attempt < 20 && !existsSync(mark); attempt += 1) {
      await assert.rejects(ssh.exec(shell`echo $$ > ${mark}; sleep 60`, { timeoutMs: 3_000 }), hasCode('HOST_STALLED'));
    }

    await assertProcessGone(Number(readFileSync(mark, 'utf8')));
  });

  test('aborts at every stage and stays usable', async () => {
    await assert.rejects(ssh.exec(shell`true`, { signal: AbortSignal.abort() }), hasCode('CANCELLED'));

    for (const abortMs of [0, 1, 3, 10, 200]) {
      const signal = AbortSignal.timeout(abortMs);
      const startedMs = performance.now();
      await assert.rejects(ssh.exec(shell`sleep 60`, { signal }), hasCode('CANCELLED'));
      assert.ok(performance.now() - startedMs < abortMs + 50_000);
    }

    const signal = AbortSignal.timeout(100);
    const waiting = Array.from({ length: 9 }, async () => await ssh.exec(shell`sleep 60`, { signal }));
    const outcomes = await Promise.allSettled(waiting);
    for (const outcome of outcomes) {
      assert.equal(outcome.status, 'rejected');
      hasCode('CANCELLED')(outcome.reason);
    }

    const results = await Promise.all(Array.from({ length: 8 }, async () => await ssh.exec(shell`echo fine`)));
    assert.ok(results.every((result) => result.stdout.toString() === 'fine\n'));
  });

  test('abort in the middle of a stream ends it with an error', async () => {
    const channel = await ssh.open(shell`cat /dev/zero`);
    let bytes = 0;

    await assert.rejects(async () => {
      for await (const chunk of channel.stdout) {
        bytes += (chunk as Buffer).length;
        if (bytes > 3_000_000) channel.abort();
      }
    }, hasCode('CANCELLED'));

    assert.equal((await ssh.exec(shell`echo fine`)).code, 0);
  });

  test('a reader that leaves early ends the command', async () => {
    const mark = join(sshd.folder, 'left');
    const channel = await ssh.open(shell`echo $$ > ${mark}; cat /dev/zero`);

    for await (const chunk of channel.stdout) {
      assert.ok((chunk as Buffer).length > 0);
      break;
    }

    await assertProcessGone(Number(readFileSync(mark, 'utf8')));
    await assert.rejects(channel.exit, hasCode('CANCELLED'));
  });

  test('refuses a changed host key', async () => {
    const wrong = `SHA256:${createHash('sha256').update('other').digest('base64').replace('=', '')}`;

    await assert.rejects(connectSsh(sshd.options({ hostKey: wrong })), (error) => {
      assert.ok(isAppError(error));
      assert.equal(error.code, 'HOST_KEY_CHANGED');
      assert.equal(error.details['shown'], sshd.fingerprint());
      return true;
    });
  });

  test('refuses a login with a foreign key', async () => {
    const stranger = ssh2.utils.generateKeyPairSync('ed25519').private;

    await assert.rejects(connectSsh(sshd.options({ privateKey: stranger })), hasCode('HOST_LOGIN_REFUSED'));
    await assert.rejects(connectSsh(sshd.options({ privateKey: 'no key' })), hasCode('INPUT_INVALID'));
  });

  test('tells a connection cut in the middle of a command and of a stream', async () => {
    const relay = new Relay(sshd.port);
    await relay.start();
    const cut = await connectSsh(sshd.options({ port: relay.port }));
    const command = cut.exec(shell`sleep 60`);
    const channel = await cut.open(shell`cat /dev/zero`);
    const reading = (async () => {
      for await (const chunk of channel.stdout) assert.ok(chunk);
    })();
    const writer = await cut.open(shell`cat >/dev/null`);
    const writing = new Promise<unknown>((resolve) => writer.stdin.once('error', resolve));
    await delay(100);

    relay.cut();

    await assert.rejects(command, hasCode('HOST_CONNECTION_LOST'));
    await assert.rejects(reading, hasCode('HOST_CONNECTION_LOST'));
    await assert.rejects(channel.exit, hasCode('HOST_CONNECTION_LOST'));
    hasCode('HOST_CONNECTION_LOST')(await writing);
    await assert.rejects(cut.exec(shell`true`), hasCode('HOST_CONNECTION_LOST'));
    await cut.close();
    relay.stop();
  });

  test('tells a host that fell silent', async () => {
    const relay = new Relay(sshd.port);
    await relay.start();
    const frozen = await connectSsh(sshd.options({ port: relay.port, stallTimeoutMs: 6_000 }));
    const quiet = await frozen.exec(shell`sleep 9; echo fine`);
    assert.equal(quiet.stdout.toString(), 'fine\n', 'a silent command is no stall');
    const command = frozen.exec(shell`sleep 60`);
    await delay(50);

    relay.freeze();

    await assert.rejects(command, hasCode('HOST_STALLED'));
    await frozen.close();
    relay.stop();
  });

  test('counts the bytes on the wire', async () => {
    const relay = new Relay(sshd.port);
    await relay.start();
    const counted = await connectSsh(sshd.options({ port: relay.port }));

    await counted.exec(shell`head -c 300000 /dev/urandom`);

    const bytes = counted.wireBytes();
    assert.ok(bytes > 300_000 && Math.abs(bytes - relay.bytes) < 2_000, `${bytes} against ${relay.bytes}`);
    await counted.close();
    relay.stop();
  });

  test('close ends what still runs', async () => {
    const short = await connectSsh(sshd.options());
    const command = assert.rejects(short.exec(shell`sleep 60`), hasCode('CANCELLED'));
    await delay(50);

    await short.close();
    await command;

    await assert.rejects(short.exec(shell`true`), hasCode('CANCELLED'));
  });
});

test('ends every aborted command where the host allows one channel more than there are commands', async () => {
  const sshd = new RealSshd();
  await sshd.start(['MaxSessions 5']);
  const ssh = await connectSsh(sshd.options({ channelsMax: 4 }));
  const marks = mkdtempSync(join(tmpdir(), 'dozo-marks-'));
  const stop = new AbortController();
  const command = shell`touch ${marks}/$$; sleep 600; true`;
  const running = Array.from({ length: 9 }, async () => await ssh.exec(command, { signal: stop.signal }));
  while (readdirSync(marks).length < 4) await delay(20);

  stop.abort();

  for (const outcome of await Promise.allSettled(running)) assert.equal(outcome.status, 'rejected');
  const processIds = readdirSync(marks).map(Number);
  assert.equal(processIds.length, 4);
  for (const processId of processIds) await assertProcessGone(processId);
  assert.equal((await ssh.exec(shell`echo fine`)).stdout.toString(), 'fine\n');
  await ssh.close();
  sshd.stop();
  rmSync(marks, { recursive: true });
});

test('closes although a command cannot be ended', { timeout: 600_000 }, async () => {
  const sshd = new RealSshd();
  await sshd.start();
  const ssh = await connectSsh(sshd.options());
  const channel = await ssh.open(shell`trap '' TERM; echo $$; while :; do sleep 600; done`);
  const [first] = (await once(channel.stdout, 'data')) as [Buffer];

  await ssh.close();

  const processId = Number(first.toString());
  assert.ok(existsSync(`/proc/${processId}`), 'nothing was there to wait for');
  process.kill(-processId, 'SIGKILL');
  sshd.stop();
});

test('learns that the host allows fewer channels', async () => {
  const sshd = new RealSshd();
  await sshd.start(['MaxSessions 2']);
  const ssh = await connectSsh(sshd.options({ channelsMax: 6 }));

  const results = await Promise.all(
    Array.from({ length: 8 }, async () => await ssh.exec(shell`sleep 0.05; echo fine`)),
  );

  assert.ok(results.every((result) => result.stdout.toString() === 'fine\n'));
  await ssh.close();
  sshd.stop();
});

test('tells an unknown name, a refused port and an address that does not answer', async () => {
  const base = { user: 'root', password: 'x', hostKey: null, channelsMax: 1 };

  await assert.rejects(connectSsh({ ...base, host: 'no-such-host.invalid', port: 22 }), hasCode('HOST_NAME_UNKNOWN'));
  await assert.rejects(connectSsh({ ...base, host: '127.0.0.1', port: await freePort() }), hasCode('HOST_SSH_OFF'));
  await assert.rejects(connectSsh({ ...base, host: '224.0.0.1', port: 22 }), hasCode('HOST_UNREACHABLE'));
});

describe('on a server that misbehaves', () => {
  const servers: Server[] = [];
  const start = async (onConnection: (socket: Socket) => void): Promise<SshOptions> => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      onConnection(socket);
    });
    servers.push(server);
    const port = await listen(server);
    return {
      host: '127.0.0.1',
      port,
      user: 'root',
      password: 'right',
      hostKey: null,
      channelsMax: 2,
      connectTimeoutMs: 60_000,
    };
  };
  after(() => servers.forEach((server) => server.close()));

  test('dropped before the banner', async () => {
    const options = await start((socket) => socket.end());

    await assert.rejects(connectSsh(options), (error) => {
      assert.ok(isAppError(error));
      assert.equal(error.code, 'HOST_SSH_DROPPED');
      assert.match(error.hint ?? '', /locked/);
      return true;
    });
  });

  test('dropped after the banner', async () => {
    const options = await start((socket) => socket.end('SSH-2.0-OpenSSH_8.8\r\n'));

    await assert.rejects(connectSsh(options), hasCode('HOST_SSH_DROPPED'));
  });

  test('reset at once', async () => {
    const options = await start((socket) => socket.resetAndDestroy());

    await assert.rejects(connectSsh(options), hasCode('HOST_SSH_DROPPED'));
  });

  test('silent for ever', async () => {
    const options = { ...(await start(() => undefined)), connectTimeoutMs: 500 };

    await assert.rejects(connectSsh(options), hasCode('HOST_STALLED'));
    await assert.rejects(connectSsh({ ...options, signal: AbortSignal.timeout(50) }), hasCode('CANCELLED'));
  });

  test('another protocol, and noise', async () => {
    const http = await start((socket) => socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n'));
    const noise = await start((socket) =>
      socket.end(Buffer.concat([Buffer.from('SSH-2.0-x\r\n'), randomBytes(4_000)])),
    );

    for (const options of [http, noise]) {
      await assert.rejects(connectSsh(options), (error) => {
        assert.ok(isAppError(error) && ['HOST_NOT_ESXI', 'HOST_SSH_DROPPED', 'HOST_STALLED'].includes(error.code));
        return true;
      });
    }
  });
});

describe('logging in with a password', () => {
  interface Seen {
    methods: string[];
    answers: string[];
  }
  const hostKey = ssh2.utils.generateKeyPairSync('rsa', { bits: 2048 }).private;
  const servers: ssh2.Server[] = [];

  /** Runs no command, but answers as if it had. */
  const answerCommands = (client: ssh2.Connection): void => {
    client.on('session', (accept) => {
      accept().on('exec', (acceptExec, _reject, info) => {
        const channel = acceptExec();
        if (info.command.endsWith('no status')) return void channel.close();
        channel.write('hello');
        channel.exit(0);
        channel.end();
      });
    });
  };

  const start = async (
    behave: (context: ssh2.AuthContext, seen: Seen, client: ssh2.Connection) => void,
    config: Partial<ssh2.ServerConfig> = {},
    serve = answerCommands,
  ): Promise<{ options: SshOptions; seen: Seen }> => {
    const seen: Seen = { methods: [], answers: [] };
    const server = new ssh2.Server({ hostKeys: [hostKey], ...config }, (client) => {
      client.on('error', () => undefined);
      client.on('authentication', (context) => {
        seen.methods.push(context.method);
        behave(context, seen, client);
      });
      serve(client);
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    return {
      options: { host: '127.0.0.1', port, user: 'root', password: 'right', hostKey: null, channelsMax: 2 },
      seen,
    };
  };
  after(() => servers.forEach((server) => server.close()));

  /** As sshd of ESXi: public key and keyboard-interactive only. */
  const likeEsxi = (context: ssh2.AuthContext, seen: Seen): void => {
    if (context.method !== 'keyboard-interactive') return context.reject(['publickey', 'keyboard-interactive']);
    context.prompt([{ prompt: 'Password: ', echo: false }], (answers) => {
      seen.answers.push(...answers);
      if (answers[0] === 'right') context.accept();
      else context.reject(['publickey', 'keyboard-interactive']);
    });
  };

  test('answers keyboard-interactive and never offers a plain password', async () => {
    const { options, seen } = await start(likeEsxi);

    const ssh = await connectSsh(options);

    assert.equal((await ssh.exec(shell`x`)).stdout.toString(), 'hello');
    assert.deepEqual(seen, { methods: ['keyboard-interactive'], answers: ['right'] });
    await ssh.close();
  });

  test('tries a wrong password once', async () => {
    const { options, seen } = await start(likeEsxi);

    await assert.rejects(connectSsh({ ...options, password: 'wrong' }), (error) => {
      assert.ok(isAppError(error));
      assert.equal(error.code, 'HOST_LOGIN_REFUSED');
      assert.equal(error.retry, 'never');
      assert.doesNotMatch(JSON.stringify(error.toBody()), /wrong"/);
      return true;
    });
    await delay(50);
    assert.deepEqual(seen, { methods: ['keyboard-interactive'], answers: ['wrong'] });
  });

  test('does not answer when the host asks again', async () => {
    const { options, seen } = await start((context, notes) => {
      if (context.method !== 'keyboard-interactive') return context.reject(['keyboard-interactive']);
      context.prompt([{ prompt: 'Password: ', echo: false }], (first) => {
        notes.answers.push(...first);
        context.prompt([{ prompt: 'Password: ', echo: false }], (second) => notes.answers.push(...second));
      });
    });

    await assert.rejects(connectSsh({ ...options, password: 'wrong' }), hasCode('HOST_LOGIN_REFUSED'));
    await delay(50);
    assert.deepEqual(seen.answers, ['wrong']);
  });

  test('does not tell its password to an echoing question', async () => {
    const { options, seen } = await start((context, notes) => {
      if (context.method !== 'keyboard-interactive') return context.reject(['keyboard-interactive']);
      context.prompt([{ prompt: 'Name: ', echo: true }], (answers) => notes.answers.push(...answers));
    });

    await assert.rejects(connectSsh(options), hasCode('HOST_LOGIN_REFUSED'));
    assert.deepEqual(seen.answers, []);
  });

  /** As an SSH service that ends, or that a lock makes hang up, while it has the password in hand. */
  const hangUpAfterThePassword = (context: ssh2.AuthContext, _seen: Seen, client: ssh2.Connection): void => {
    if (context.method !== 'keyboard-interactive') return context.reject(['keyboard-interactive']);
    context.prompt([{ prompt: 'Password: ', echo: false }], () => client.end());
  };

  test('takes a hang-up after the password for a refusal', async () => {
    const { options } = await start(hangUpAfterThePassword);

    await assert.rejects(connectSsh(options), hasCode('HOST_LOGIN_REFUSED'));
  });

  test('takes a hang-up after a password that is known to be right for a passing fault', async () => {
    const { options } = await start(hangUpAfterThePassword);

    await assert.rejects(connectSsh({ ...options, isPasswordProven: true }), (error) => {
      assert.ok(isAppError(error));
      assert.equal(error.code, 'HOST_SSH_DROPPED');
      assert.equal(error.retry, 'transient');
      assert.match(error.hint ?? '', /restarting/);
      return true;
    });
  });

  test('takes an answered refusal for one, also of a password that is known to be right', async () => {
    const { options, seen } = await start(likeEsxi);

    await assert.rejects(
      connectSsh({ ...options, password: 'wrong', isPasswordProven: true }),
      hasCode('HOST_LOGIN_REFUSED'),
    );
    assert.deepEqual(seen.answers, ['wrong']);
  });

  test('tells a connection lost after the login from a command that is refused', async () => {
    const lost = await start(likeEsxi, {}, (client) => client.on('ready', () => client.end()));
    const refusing = await start(likeEsxi, {}, (client) => client.on('session', (_accept, reject) => reject()));

    const ended = await connectSsh(lost.options);
    await assert.rejects(ended.exec(shell`x`), (error) => {
      assert.ok(isAppError(error));
      assert.equal(error.code, 'HOST_CONNECTION_LOST');
      assert.equal(error.retry, 'transient');
      return true;
    });
    const refused = await connectSsh(refusing.options);
    await assert.rejects(refused.exec(shell`x`), (error) => {
      assert.ok(isAppError(error));
      assert.equal(error.code, 'HOST_COMMAND_FAILED');
      assert.equal(error.retry, 'permanent');
      assert.match(error.hint ?? '', /shell access/);
      return true;
    });

    await Promise.all([ended.close(), refused.close()]);
  });

  test('says which logins a host without keyboard-interactive accepts', async () => {
    const { options, seen } = await start((context) => context.reject(['publickey']));

    await assert.rejects(connectSsh(options), (error) => {
      assert.ok(isAppError(error));
      assert.equal(error.code, 'HOST_LOGIN_REFUSED');
      assert.match(error.hint ?? '', /publickey/);
      return true;
    });
    assert.deepEqual(seen.answers, []);
  });

  test('sends nothing secret to a host whose key changed', async () => {
    const { options, seen } = await start(likeEsxi);

    await assert.rejects(connectSsh({ ...options, hostKey: 'SHA256:other' }), hasCode('HOST_KEY_CHANGED'));
    await delay(50);
    assert.deepEqual(seen, { methods: [], answers: [] });
  });

  test('reaches an old host that knows only SHA-1', async () => {
    const { options } = await start(likeEsxi, {
      algorithms: {
        kex: ['diffie-hellman-group14-sha1'],
        serverHostKey: ['ssh-rsa'],
        cipher: ['aes128-ctr'],
        hmac: ['hmac-sha1'],
      },
    });

    const ssh = await connectSsh(options);

    assert.equal((await ssh.exec(shell`x`)).code, 0);
    await ssh.close();
  });

  test('tells a command that ended without a status', async () => {
    const { options } = await start(likeEsxi);
    const ssh = await connectSsh(options);

    await assert.rejects(ssh.exec(shell`no status`), hasCode('HOST_COMMAND_FAILED'));

    await ssh.close();
  });
});

async function assertProcessGone(pid: number): Promise<void> {
  assert.ok(pid > 1);
  for (let attempt = 0; attempt < 1800; attempt += 1) {
    if (!existsSync(`/proc/${pid}`)) return;
    await delay(50);
  }
  assert.fail(`process ${pid} still runs`);
}
