import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { LabHost } from '../lab/lab-host.ts';

/** Runs in the network of the NAS: each port given leads to a socket of the same name in a folder. */
const RELAY = `
const { connect, createServer } = require('node:net');
const [folder, ...ports] = process.argv.slice(1);
let left = ports.length;
for (const port of ports) {
  createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ path: folder + '/' + port, allowHalfOpen: true });
    near.pipe(far); far.pipe(near);
    for (const [one, other] of [[near, far], [far, near]]) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  }).listen(Number(port), '127.0.0.1', () => { left -= 1; if (left === 0) console.log('ready'); });
}`;

/**
 * The cable between a NAS in a network of its own and a lab host on this machine, at the same ports on both sides. It
 * can be held: then what the host sends over SSH stays on the way until it is let go.
 */
export class LabLink {
  readonly #folder = mkdtempSync(join(tmpdir(), 'dozo-link-'));
  readonly #lab: LabHost;
  readonly #servers: Server[] = [];
  readonly #near = new Set<Socket>();
  readonly #far = new Set<Socket>();
  #relay: ChildProcess | null = null;
  #leftBytes = Infinity;
  #held: (() => void) | null = null;

  private constructor(lab: LabHost) {
    this.#lab = lab;
  }

  static async open(lab: LabHost): Promise<LabLink> {
    const link = new LabLink(lab);
    for (const port of link.#ports) {
      const server = createServer((socket) => link.#join(socket, port));
      server.listen(join(link.#folder, String(port)));
      await once(server, 'listening');
      link.#servers.push(server);
    }
    return link;
  }

  /** @param pid of a process in the network of the NAS; the one before is left */
  async plugInto(pid: number): Promise<void> {
    this.#relay?.kill('SIGKILL');
    const args = ['-t', String(pid), '-n', process.execPath, '-e', RELAY, this.#folder, ...this.#ports.map(String)];
    const relay = spawn('nsenter', args, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#relay = relay;
    await Promise.race([
      once(relay.stdout, 'data'),
      once(relay, 'exit').then(() => Promise.reject(new Error('the link to the lab host did not open'))),
    ]);
  }

  /** Holds everything from the host once so many bytes came over SSH. Resolves when it is held. */
  holdAfter(bytes: number): Promise<void> {
    this.#leftBytes = bytes;
    return new Promise((resolve) => {
      this.#held = resolve;
    });
  }

  letGo(): void {
    this.#leftBytes = Infinity;
    for (const socket of this.#far) socket.resume();
  }

  close(): void {
    this.#relay?.kill('SIGKILL');
    for (const server of this.#servers) server.close();
    for (const socket of [...this.#near, ...this.#far]) socket.destroy();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  get #ports(): number[] {
    return [this.#lab.sshPort, this.#lab.httpsPort].filter((port) => port !== null);
  }

  #join(near: Socket, port: number): void {
    const far = connect(port, this.#lab.address);
    this.#near.add(near);
    this.#far.add(far);
    near.pipe(far);
    far.on('data', (data: Buffer) => {
      near.write(data);
      if (port === this.#lab.sshPort) this.#leftBytes -= data.length;
      if (this.#leftBytes > 0) return;
      for (const socket of this.#far) socket.pause();
      this.#held?.();
      this.#held = null;
    });
    far.on('end', () => near.end());
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('error', () => other.destroy());
      one.on('close', () => {
        other.destroy();
        this.#near.delete(near);
        this.#far.delete(far);
      });
    }
  }
}
