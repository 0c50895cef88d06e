import { createServer, type Server, type Socket } from 'node:net';
import type { Command, Invocation } from '../commands/command.ts';
import { esxcli } from '../commands/esxcli.ts';
import { account, auth, df, hostname, uname, vmware } from '../commands/host-tools.ts';
import { vimCmd } from '../commands/vim-cmd.ts';
import { vmkfstools } from '../commands/vmkfstools.ts';
import type { Host } from './host.ts';

const COMMANDS: Record<string, Command> = {
  'vim-cmd': vimCmd,
  vmkfstools,
  esxcli,
  localcli: esxcli,
  vmware,
  uname,
  hostname,
  df,
  auth,
  account,
};

const FRAME_BYTES = 512 * 1024;

/** Serves the shell's host commands (native/lab-client.c) on a unix socket. */
export class CommandServer {
  readonly #host: Host;
  readonly #server: Server;
  readonly #running = new Set<Promise<void>>();

  private constructor(host: Host) {
    this.#host = host;
    this.#server = createServer((socket) => {
      serve(socket, (call) => {
        const work = run(this.#host, socket, call).finally(() => this.#running.delete(work));
        this.#running.add(work);
      });
    });
  }

  static async start(host: Host, path: string): Promise<CommandServer> {
    const commands = new CommandServer(host);
    await new Promise<void>((resolve, reject) => {
      commands.#server.once('error', reject);
      commands.#server.listen(path, resolve);
    });
    return commands;
  }

  /** Resolves when none of the commands runs any more that run now. */
  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }
}

function serve(socket: Socket, begin: (call: Invocation) => void): void {
  let received = Buffer.alloc(0);
  let started = false;
  const gone = new AbortController();
  socket.on('error', () => gone.abort());
  socket.on('close', () => gone.abort());
  socket.on('data', (data) => {
    if (started) return;
    received = Buffer.concat([received, data]);
    const words = decode(received);
    if (words === null) return;
    started = true;
    const [program = '', folder = '/', terminal = '', user = 'root', ...args] = words;
    begin({
      program,
      folder,
      isTerminal: terminal === '1',
      user,
      args,
      out: (text) => frame(socket, 1, Buffer.from(text)),
      err: (text) => frame(socket, 2, Buffer.from(text)),
      signal: gone.signal,
    });
  });
}

async function run(host: Host, socket: Socket, call: Invocation): Promise<void> {
  let status = 127;
  try {
    const command = COMMANDS[call.program];
    if (command !== undefined) status = await command(host, call);
  } catch (error) {
    call.err(`lab: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    status = 255;
  }
  frame(socket, 3, Buffer.from([status & 255]));
  socket.end();
}

function frame(socket: Socket, kind: number, body: Buffer): void {
  if (socket.destroyed || socket.writableEnded) return;
  for (let at = 0; at === 0 || at < body.length; at += FRAME_BYTES) {
    const part = body.subarray(at, at + FRAME_BYTES);
    const header = Buffer.alloc(5);
    header.writeUInt8(kind);
    header.writeUInt32LE(part.length, 1);
    socket.write(Buffer.concat([header, part]));
  }
}

/** Null while incomplete. */
function decode(data: Buffer): string[] | null {
  if (data.length < 4) return null;
  const count = data.readUInt32LE(0);
  const words: string[] = [];
  let at = 4;
  for (let index = 0; index < count; index++) {
    if (data.length < at + 4) return null;
    const length = data.readUInt32LE(at);
    if (data.length < at + 4 + length) return null;
    words.push(data.toString('utf8', at + 4, at + 4 + length));
    at += 4 + length;
  }
  return words;
}
