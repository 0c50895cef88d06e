import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { systemClock, type Clock } from '../../server/runtime/index.ts';
import { startIscsiServer, type BackingDisk, type IscsiLimits, type SessionEnd } from '../../server/iscsi/index.ts';

/** A target on a free port with a folder for its images, and the programs of others that log in to it. */

export const TARGET = 'iqn.2020-01.test.dozo:disk';
export const USER = 'initiator';
export const SECRET = 'a-secret-of-a-run';
const LIBISCSI = 'iqn.2007-10.com.github:sahlberg:libiscsi:';
/** Names by which libiscsi's tools, QEMU and the tests' own initiator log in. */
export const INITIATORS = [
  `${LIBISCSI}iscsi-ls`,
  `${LIBISCSI}iscsi-inq`,
  `${LIBISCSI}iscsi-test`,
  `${LIBISCSI}iscsi-test-2`,
  'iqn.2008-11.org.linux-kvm',
  'iqn.2020-01.test.dozo:own',
];
const CLIENT_TIMEOUT_MS = 10 * 60_000;
/**
 * Where a target has ended the connection, a program that goes on writing to it would be ended by the signal instead
 * of being told by the write: libiscsi's do not ignore it themselves.
 */
const WITHOUT_SIGPIPE = ['-c', `trap '' PIPE && exec "$@"`, 'sh'];

export interface Scene {
  folder: string;
  port: number;
  /** For libiscsi and QEMU. */
  url: string;
  /** Of the next session that ends, or of the one that ended since the last call. */
  sessionEnd(): Promise<SessionEnd>;
}

export interface TargetOptions {
  open(folder: string): Promise<BackingDisk>;
  limits?: Partial<IscsiLimits>;
  clock?: Clock;
}

/** Stands still but for who moves it on, so that nothing depends on how fast this machine is. */
export class HandClock implements Clock {
  ms = 0;
  readonly nowMs = (): number => this.ms;
  readonly monotonicMs = (): number => this.ms;
  readonly sleep = (ms: number, signal?: AbortSignal): Promise<void> => systemClock.sleep(ms, signal);
}

export async function withTarget(options: TargetOptions, body: (scene: Scene) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    const { limits = {}, clock = systemClock } = options;
    const server = await startIscsiServer({ host: '127.0.0.1', port: 0, limits, clock });
    const disk = await options.open(folder);
    let ended = Promise.withResolvers<SessionEnd>();
    server.addTarget({
      name: TARGET,
      access: INITIATORS.map((initiatorName) => ({ initiatorName, chapUser: USER, chapSecret: SECRET })),
      disks: [{ disk, seed: 'scene' }],
      onSessionEnd: (end) => ended.resolve(end),
    });
    const url = `iscsi://${USER}%${SECRET}@127.0.0.1:${server.port}/${TARGET}/0`;
    try {
      await body({
        folder,
        port: server.port,
        url,
        sessionEnd: async () => {
          const end = await ended.promise;
          ended = Promise.withResolvers<SessionEnd>();
          return end;
        },
      });
    } finally {
      await server.close();
      await disk.close();
    }
  });
}

export async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), 'dozo-iscsi-'));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

export async function runClient(command: string, args: string[]): Promise<{ status: number; output: string }> {
  return new Promise((resolve, reject) => {
    const limits = { timeout: CLIENT_TIMEOUT_MS, maxBuffer: 2 ** 26 };
    execFile('sh', [...WITHOUT_SIGPIPE, command, ...args], limits, (error, stdout, stderr) => {
      const output = stdout + stderr;
      if (error === null) resolve({ status: 0, output });
      else if (typeof error.code === 'number') resolve({ status: error.code, output });
      else reject(new Error(`${command} was ended by ${error.signal}:\n${output.slice(-2000)}`, { cause: error }));
    });
  });
}

/** Zeros, text and noise in pieces of odd sizes; always the same for a seed. */
export function diskContent(sizeBytes: number, seed: string): Buffer {
  const content = Buffer.alloc(sizeBytes);
  let word = createHash('sha256').update(seed).digest();
  for (let at = 0; at < sizeBytes;) {
    word = createHash('sha256').update(word).digest();
    const end = Math.min(sizeBytes, at + 512 * (1 + (word.readUInt16LE(0) % 300)));
    const kind = word.readUInt8(2) % 3;
    if (kind === 1) content.fill(`text of ${seed}\n`, at, end);
    if (kind === 2)
      for (let piece = at; piece < end; piece += 64)
        createHash('sha512')
          .update(word)
          .update(String(piece))
          .digest()
          .copy(content, piece, 0, end - piece);
    at = end;
  }
  return content;
}
