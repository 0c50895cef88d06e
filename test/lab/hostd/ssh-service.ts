import { createServer, connect, type Server } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { makeHostKey, writeSshdConfig } from '../jail/root-folder.ts';
import type { Jail } from '../jail/jail.ts';
import type { Host } from './host.ts';

const WATCH_MS = 20;

/** OpenSSH in the jail, with the faults that the switches ask for. */
export class SshService {
  readonly #host: Host;
  #jail: Jail | null = null;
  readonly #root: string;
  readonly #address: string;
  readonly port: number;
  readonly fingerprint: string;
  #state: 'on' | 'off' | 'drop' | 'stall' | 'changed-key' | null = null;
  #dropper: Server | null = null;
  #watch: NodeJS.Timeout | undefined;
  #killed = 0;
  #queue: Promise<void> = Promise.resolve();
  readonly #stopped = new Set<number>();
  #isListening = false;

  constructor(options: { host: Host; root: string; address: string; port: number }) {
    this.#host = options.host;
    this.#root = options.root;
    this.#address = options.address;
    this.port = options.port;
    this.fingerprint = makeHostKey(this.#root, 'ssh_host_ed25519_key').fingerprint;
  }

  /** Begins in a jail that has just started, again after `losePower`. */
  async start(jail: Jail): Promise<void> {
    this.#jail = jail;
    if (!this.#isListening) {
      this.#isListening = true;
      this.#host.onSwitches(() => {
        this.#queue = this.#queue.then(() => this.#apply()).catch((error: unknown) => console.error(error));
      });
    }
    await this.#apply();
  }

  /** The jail has ended, and every session with it. */
  async losePower(): Promise<void> {
    await this.#queue;
    this.#jail = null;
    this.#state = null;
    this.#stopped.clear();
    await this.close();
    this.#dropper = null;
  }

  /** Resolves when the switches set so far have taken effect. */
  settled(): Promise<void> {
    return this.#queue;
  }

  killSessions(): number {
    const sessions = this.#sessions();
    for (const { pid } of sessions) kill(pid, 'SIGKILL');
    return sessions.length;
  }

  #sessions(): { pid: number; writtenBytes: number }[] {
    return this.#jail?.sessions() ?? [];
  }

  async #apply(): Promise<void> {
    if (this.#jail === null) return;
    const { ssh, sshHostKeyChanged, killSessionAfterBytes } = this.#host.switches;
    const wanted = ssh === 'on' && sshHostKeyChanged ? 'changed-key' : ssh;
    if (wanted !== this.#state) {
      const before = this.#state;
      this.#state = wanted;
      if (before === 'stall') this.#resume();
      if (wanted === 'stall') {
        this.#freeze();
      } else if (!(before === 'stall' && wanted === 'on')) {
        await this.#stopListening();
        if (wanted === 'drop') await this.#startDropping();
        else if (wanted !== 'off')
          await this.#listen(wanted === 'changed-key' ? 'ssh_host_other_key' : 'ssh_host_ed25519_key');
      }
    }
    clearInterval(this.#watch);
    if (killSessionAfterBytes !== null || wanted === 'stall') {
      this.#killed = killSessionAfterBytes === null ? 0 : this.#killed;
      this.#watch = setInterval(() => this.#look(), WATCH_MS);
    } else this.#killed = 0;
  }

  async #listen(keyName: string): Promise<void> {
    const hostKey = makeHostKey(this.#root, keyName).path;
    writeSshdConfig(this.#root, { address: this.#address, port: this.port, hostKey });
    await this.#jail?.startSshd();
    await untilListening(this.#address, this.port);
  }

  async #stopListening(): Promise<void> {
    await this.#jail?.stopSshd();
    const dropper = this.#dropper;
    this.#dropper = null;
    if (dropper !== null) await new Promise((resolve) => dropper.close(resolve));
  }

  /** Accepts and closes without a word, as a host under too many logins does. */
  async #startDropping(): Promise<void> {
    const server = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.port, this.#address, resolve);
    });
    this.#dropper = server;
  }

  #freeze(): void {
    for (const { pid } of this.#sessions()) {
      if (!this.#stopped.has(pid)) {
        kill(pid, 'SIGSTOP');
        this.#stopped.add(pid);
      }
    }
  }

  #resume(): void {
    for (const pid of this.#stopped) kill(pid, 'SIGCONT');
    this.#stopped.clear();
  }

  #look(): void {
    const { killSessionAfterBytes, killSessionsMax, ssh } = this.#host.switches;
    if (ssh === 'stall') this.#freeze();
    if (killSessionAfterBytes === null) return;
    for (const { pid, writtenBytes } of this.#sessions()) {
      if (writtenBytes < killSessionAfterBytes) continue;
      if (killSessionsMax !== null && this.#killed >= killSessionsMax) return;
      this.#killed += 1;
      kill(pid, 'SIGKILL');
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#watch);
    const dropper = this.#dropper;
    if (dropper !== null) await new Promise((resolve) => dropper.close(resolve));
  }
}

function kill(pid: number, signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Ended by itself.
  }
}

async function untilListening(address: string, port: number): Promise<void> {
  for (let attempt = 0; attempt < 6_000; attempt++) {
    const isOpen = await new Promise<boolean>((resolve) => {
      const socket = connect(port, address === '0.0.0.0' ? '127.0.0.1' : address, () => {
        socket.destroy();
        resolve(true);
      });
      socket.on('error', () => resolve(false));
    });
    if (isOpen) return;
    await delay(20);
  }
  throw new Error(`sshd does not listen on ${address}:${port}`);
}
