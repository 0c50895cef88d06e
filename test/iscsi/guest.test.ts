import assert from 'node:assert/strict';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { buildGuest } from './guest-system.ts';
import { SECRET, TARGET, USER } from './scene.ts';

const WAIT_MS = 600_000;
const folder = mkdtempSync(join(tmpdir(), 'dozo-guest-'));
const started = new Set<ChildProcess>();
const guest = buildGuest(folder);

after(() => {
  for (const child of started) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

async function startTarget(path: string, port: number): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'target-child.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  started.add(child);
  child.stdin.write(`${JSON.stringify({ path, port })}\n`);
  const line = await new Promise<string>((resolve) => createInterface({ input: child.stdout }).once('line', resolve));
  return { child, port: Number(line) };
}

async function killHard(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

test(
  'a Linux runs from the target and keeps its files through kill -9 of it under load',
  { skip: typeof guest === 'string' ? guest : false },
  async () => {
    assert.ok(typeof guest !== 'string');
    let target = await startTarget(guest.image, 0);
    const qemu = spawn(
      'qemu-system-x86_64',
      [
        ...['-accel', 'tcg', '-cpu', 'max', '-m', '192', '-no-reboot', '-display', 'none', '-monitor', 'none'],
        ...['-serial', 'stdio', '-kernel', guest.kernel, '-initrd', guest.initramfs],
        ...['-append', 'console=ttyS0 quiet panic=-1'],
        '-drive',
        `file=iscsi://${USER}%${SECRET}@127.0.0.1:${target.port}/${TARGET}/0,if=virtio,format=raw,cache=none`,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    started.add(qemu);
    const said: string[] = [];
    qemu.stderr.on('data', (text: Buffer) => said.push(text.toString()));
    createInterface({ input: qemu.stdout }).on('line', (line) => said.push(line.trim()));
    const ended = new Promise<number | null>((resolve) => qemu.once('exit', resolve));
    const hears = async (words: string): Promise<void> => {
      for (const untilMs = Date.now() + WAIT_MS; !said.includes(words);) {
        assert.ok(Date.now() < untilMs && qemu.exitCode === null, `no "${words}":\n${said.join('\n').slice(-3000)}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };

    for (const round of ['round 4', 'round 12']) {
      await hears(round);
      await killHard(target.child);
      target = await startTarget(guest.image, target.port);
    }
    await hears('round 24');
    await ended;

    for (const words of ['LOAD-WORKED', 'ALL-GOOD', 'CLOSED'])
      assert.ok(said.includes(words), `no "${words}":\n${said.join('\n').slice(-3000)}`);
    assert.ok(!said.includes('WRITE-FAILED'));
    await killHard(target.child);
    // Throws unless the file system is clean.
    execFileSync('e2fsck', ['-f', '-n', guest.image], { stdio: 'pipe' });
  },
);
