import assert from 'node:assert/strict';
import { createHash, randomBytes, randomInt } from 'node:crypto';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { LocalShellConnection } from '../../../test/fakes/local-shell-connection.ts';
import { silentLogger, systemClock } from '../../runtime/index.ts';
import type { ShellCommand } from '../../ssh/index.ts';
import { DiskWriter, hashOnHost, type RunsBy } from './disk-writer.ts';
import { probeFullBlock, probePython } from './host-programs.ts';
import { HostShell } from './host-shell.ts';

const MIB = 1024 * 1024;
const SIZE_BYTES = 32 * MIB + 512;
let folder = '';
let count = 0;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "dozo writes ' $x "));
});
after(async () => await rm(folder, { recursive: true }));

async function makeTarget(by: RunsBy, connections = [new LocalShellConnection()]) {
  count += 1;
  const path = join(folder, `disk ${String(count)}-flat.vmdk`);
  const file = await open(path, 'w');
  await file.truncate(SIZE_BYTES);
  await file.close();
  const [first, ...others] = connections;
  assert.ok(first !== undefined);
  const host = new HostShell({
    connection: first,
    connect: async () => {
      const next = others.shift();
      assert.ok(next !== undefined, 'no connection left');
      return await Promise.resolve(next);
    },
    clock: systemClock,
    logger: silentLogger,
  });
  return { path, host, writer: new DiskWriter({ host, path, clock: systemClock, channels: 3, by }) };
}

for (const by of ['python', 'shell', 'commands'] as const) {
  test(`writes runs of any place and size by ${by}`, async () => {
    const { path, writer } = await makeTarget(by);
    const expected = Buffer.alloc(SIZE_BYTES);
    for (let step = 0; step < 60; step += 1) {
      const isRough = step % 20 === 19;
      const unit = isRough ? 1 : 512;
      const lengthBytes = randomInt(1, Math.floor((isRough ? 2000 : MIB) / unit)) * unit;
      const offsetBytes = randomInt(0, Math.floor((SIZE_BYTES - lengthBytes) / unit)) * unit;
      const data = randomBytes(lengthBytes);
      data.copy(expected, offsetBytes);
      await writer.write(offsetBytes, data);
    }
    const tail = randomBytes(512);
    tail.copy(expected, SIZE_BYTES - 512);
    await writer.write(SIZE_BYTES - 512, tail);
    await writer.flush();
    const written = await readFile(path);
    assert.equal(written.length, SIZE_BYTES);
    assert.ok(written.equals(expected));
  });
}

for (const by of ['python', 'shell'] as const) {
  test(`joins writes that touch into few commands, by ${by}`, async () => {
    const connection = new LocalShellConnection();
    const { path, writer } = await makeTarget(by, [connection]);
    const data = randomBytes(16 * MIB);
    for (let at = 0; at < data.length; at += 256 * 1024) await writer.write(at, data.subarray(at, at + 256 * 1024));
    await writer.flush();
    assert.ok((await readFile(path)).subarray(0, data.length).equals(data));
    assert.ok(connection.commands.length <= 6, `${String(connection.commands.length)} commands`);
  });

  test(`writes again over a new connection what a cut one had under way, by ${by}`, async () => {
    const first = new LocalShellConnection();
    const { path, writer } = await makeTarget(by, [first, new LocalShellConnection()]);
    const data = randomBytes(24 * MIB);
    for (let at = 0; at < data.length; at += MIB) {
      await writer.write(at, data.subarray(at, at + MIB));
      if (at === 9 * MIB) first.cut();
    }
    await writer.flush();
    assert.ok((await readFile(path)).subarray(0, data.length).equals(data));
  });

  test(`reports a target that cannot be written, by ${by}`, async () => {
    const { path, host } = await makeTarget(by);
    const gone = join(path, 'no folder', 'x-flat.vmdk');
    const writer = new DiskWriter({ host, path: gone, clock: systemClock, channels: 1, by });
    await writer.write(0, randomBytes(512));
    await assert.rejects(writer.flush(), { code: 'DISK_WRITE_FAILED' });
    await assert.rejects(writer.write(512, randomBytes(512)), { code: 'DISK_WRITE_FAILED' });
  });

  test(`reports a full datastore, by ${by}`, async () => {
    const { host } = await makeTarget(by);
    const writer = new DiskWriter({ host, path: '/dev/full', clock: systemClock, channels: 1, by });
    await writer.write(0, randomBytes(65536));
    await assert.rejects(writer.flush(), { code: 'DATASTORE_FULL' });
  });
}

test('hashes ranges on the host in the order asked', async () => {
  const { path, host, writer } = await makeTarget('shell');
  const data = randomBytes(3 * MIB);
  await writer.write(MIB, data);
  await writer.flush();
  assert.equal(await probeFullBlock(host, new AbortController().signal), true);
  assert.equal(await probePython(host), true);
  const extents = [
    { offsetBytes: 2 * MIB, lengthBytes: 512 * 3, chunkBytes: null },
    { offsetBytes: MIB, lengthBytes: 3 * MIB, chunkBytes: null },
    { offsetBytes: SIZE_BYTES - 512, lengthBytes: 512, chunkBytes: null },
  ];
  const image = await readFile(path);
  const expected = extents.map(({ offsetBytes, lengthBytes }) =>
    createHash('sha256')
      .update(image.subarray(offsetBytes, offsetBytes + lengthBytes))
      .digest('hex'),
  );
  assert.deepEqual(await hashOnHost(host, path, extents), expected);
  const byChunks = createHash('sha256');
  for (let at = MIB; at < MIB + 700_000; at += 262_144) {
    byChunks.update(
      createHash('sha256')
        .update(image.subarray(at, Math.min(at + 262_144, MIB + 700_000)))
        .digest(),
    );
  }
  assert.deepEqual(await hashOnHost(host, path, [{ offsetBytes: MIB, lengthBytes: 700_000, chunkBytes: 262_144 }]), [
    byChunks.digest('hex'),
  ]);
  assert.deepEqual(await hashOnHost(withoutTool(host, 'python3'), path, extents), expected);
  const bare = withoutTool(withoutTool(host, 'python3'), 'sh -c');
  assert.deepEqual(await hashOnHost(bare, path, extents), expected);
});

/** The same shell, in which commands that begin so are not found. */
function withoutTool(host: HostShell, tool: string): HostShell {
  return {
    exec: async (command: ShellCommand, options?: Parameters<HostShell['exec']>[1]) =>
      command.startsWith(tool)
        ? { code: 127, stdout: Buffer.alloc(0), stderr: `${tool}: not found` }
        : await host.exec(command, options),
    usable: async (signal?: AbortSignal) => await host.usable(signal),
  } as HostShell;
}
