import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { LocalShellConnection } from '../../../test/fakes/local-shell-connection.ts';
import { normalizeExtents, totalBytes, type DiskSink, type Extent } from '../../disk/index.ts';
import { AppError } from '../../errors/index.ts';
import { silentLogger, systemClock } from '../../runtime/index.ts';
import { HostShell } from './host-shell.ts';
import { planWindows, readWindowsBy, readWindowsOverSsh, type RawPiece } from './range-reader.ts';

const MIB = 1024 * 1024;
const SIZE_BYTES = 21 * MIB + 512 * 3;
const content = randomBytes(SIZE_BYTES);
const clock = { ...systemClock, sleep: async () => await new Promise<void>((done) => void setTimeout(done, 1)) };
let folder = '';
let piece: RawPiece;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "dozo ranges ' $x "));
  piece = { path: join(folder, 'disk-flat.vmdk'), diskOffsetBytes: 0, fileOffsetBytes: 0, lengthBytes: SIZE_BYTES };
  await writeFile(piece.path, content);
});
after(async () => await rm(folder, { recursive: true }));

function makeShell(connections: LocalShellConnection[]): HostShell {
  const next = async (): Promise<LocalShellConnection> => {
    const connection = connections.shift();
    if (connection === undefined) throw new AppError('HOST_UNREACHABLE', 'none left');
    return await Promise.resolve(connection);
  };
  const first = connections.shift();
  assert.ok(first !== undefined);
  return new HostShell({ connection: first, connect: next, clock, logger: silentLogger });
}

class RecordingSink implements DiskSink {
  readonly image = Buffer.alloc(SIZE_BYTES);
  readonly delivered: Extent[] = [];
  onWrite: (count: number) => void = () => undefined;

  async write(offsetBytes: number, data: Buffer): Promise<void> {
    data.copy(this.image, offsetBytes);
    this.delivered.push({ offsetBytes, lengthBytes: data.length });
    this.onWrite(this.delivered.length);
    await Promise.resolve();
  }

  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.write(offsetBytes, Buffer.alloc(lengthBytes));
  }
}

function options(sink: DiskSink, hasPython = true) {
  const none = (): void => undefined;
  return {
    sink,
    signal: new AbortController().signal,
    onDelivered: none,
    onReceived: none,
    channels: 3,
    hasPython,
    clock,
  };
}

function assertDelivered(sink: RecordingSink, extents: Extent[]): void {
  assert.deepEqual(normalizeExtents(sink.delivered), normalizeExtents(extents));
  for (const { offsetBytes, lengthBytes } of extents) {
    const [got, wanted] = [sink.image, content].map((image) => image.subarray(offsetBytes, offsetBytes + lengthBytes));
    assert.ok(got?.equals(wanted ?? Buffer.alloc(0)), `bytes at ${String(offsetBytes)}`);
  }
}

function way(hasPython: boolean): string {
  return hasPython ? 'by Python' : 'by the shell';
}

for (const hasPython of [true, false]) {
  test(`reads a whole disk whose length is no multiple of anything, ${way(hasPython)}`, async () => {
    const sink = new RecordingSink();
    const all = [{ offsetBytes: 0, lengthBytes: SIZE_BYTES }];
    await readWindowsOverSsh(
      makeShell([new LocalShellConnection()]),
      planWindows(all, [piece]),
      options(sink, hasPython),
    );
    assertDelivered(sink, all);
  });
}

for (const hasPython of [true, false]) {
  test(`reads thousands of small extents with few commands, ${way(hasPython)}`, async () => {
    const connection = new LocalShellConnection();
    const extents = Array.from({ length: 2000 }, (_, at) => ({ offsetBytes: at * 10_240 + 512, lengthBytes: 512 }));
    const sink = new RecordingSink();
    await readWindowsOverSsh(makeShell([connection]), planWindows(extents, [piece]), options(sink, hasPython));
    assertDelivered(sink, extents);
    assert.ok(connection.commands.length <= 3);
  });
}

test('windows cover exactly what was asked for, whatever the extents', () => {
  const extent = fc.record({ offsetBytes: fc.nat(SIZE_BYTES - 1), lengthBytes: fc.integer({ min: 1, max: 6 * MIB }) });
  const half = Math.floor(SIZE_BYTES / 1024) * 512;
  const two: RawPiece[] = [
    { path: '/a', diskOffsetBytes: 0, fileOffsetBytes: 0, lengthBytes: half },
    { path: '/b', diskOffsetBytes: half, fileOffsetBytes: 0, lengthBytes: SIZE_BYTES - half },
  ];
  fc.assert(
    fc.property(fc.array(extent, { maxLength: 12 }), (some) => {
      const clipped = some.map(({ offsetBytes, lengthBytes }) => ({
        offsetBytes,
        lengthBytes: Math.min(lengthBytes, SIZE_BYTES - offsetBytes),
      }));
      const wanted = normalizeExtents(clipped);
      const windows = planWindows(wanted, two);
      const parts = windows.flatMap((window) => window.parts);
      const covered = parts.map((part) => ({ offsetBytes: part.diskOffsetBytes, lengthBytes: part.lengthBytes }));
      assert.equal(totalBytes(covered), totalBytes(wanted));
      assert.deepEqual(normalizeExtents(covered), wanted);
      for (const window of windows) {
        const base = window.path === '/a' ? 0 : half;
        assert.equal(window.fileOffsetBytes % 65536, 0);
        for (const part of window.parts) {
          assert.equal(base + window.fileOffsetBytes + part.windowOffsetBytes, part.diskOffsetBytes);
          assert.ok(part.windowOffsetBytes + part.lengthBytes <= window.lengthBytes);
        }
      }
    }),
  );
});

for (const hasPython of [true, false]) {
  test(`goes on over a new connection when one is cut, without asking again for what had come, ${way(hasPython)}`, async () => {
    const first = new LocalShellConnection();
    const sink = new RecordingSink();
    sink.onWrite = (count) => {
      if (count === 2) first.cut();
    };
    const all = [{ offsetBytes: 0, lengthBytes: SIZE_BYTES }];
    await readWindowsOverSsh(
      makeShell([first, new LocalShellConnection()]),
      planWindows(all, [piece]),
      options(sink, hasPython),
    );
    assertDelivered(sink, all);
    assert.equal(totalBytes(sink.delivered), SIZE_BYTES);
  });

  test(`reports a lost host after its attempts, ${way(hasPython)}`, async () => {
    const first = new LocalShellConnection();
    const sink = new RecordingSink();
    sink.onWrite = () => first.cut();
    const all = [{ offsetBytes: 0, lengthBytes: SIZE_BYTES }];
    await assert.rejects(readWindowsOverSsh(makeShell([first]), planWindows(all, [piece]), options(sink, hasPython)), {
      code: 'HOST_UNREACHABLE',
    });
  });

  test(`never delivers bytes of a file that is shorter than its disk, ${way(hasPython)}`, async () => {
    const path = join(folder, 'short-flat.vmdk');
    await writeFile(path, content);
    await truncate(path, 5 * MIB + 700);
    const sink = new RecordingSink();
    const windows = planWindows([{ offsetBytes: 0, lengthBytes: SIZE_BYTES }], [{ ...piece, path }]);
    await assert.rejects(
      readWindowsOverSsh(makeShell([new LocalShellConnection()]), windows, options(sink, hasPython)),
      {
        code: 'DISK_READ_SHORT',
      },
    );
    assert.deepEqual(sink.delivered, []);
  });

  test(`says that a file may not be read, ${way(hasPython)}`, async () => {
    const windows = planWindows([{ offsetBytes: 0, lengthBytes: MIB }], [{ ...piece, path: join(folder, 'gone') }]);
    await assert.rejects(
      readWindowsOverSsh(makeShell([new LocalShellConnection()]), windows, options(new RecordingSink(), hasPython)),
      { code: 'DISK_READ_REFUSED' },
    );
  });
}

test('passes on a failure of the receiving side as it is, at once', async () => {
  const sink = new RecordingSink();
  const full = new AppError('STORAGE_FULL', 'full');
  sink.onWrite = () => {
    throw full;
  };
  const windows = planWindows([{ offsetBytes: 0, lengthBytes: SIZE_BYTES }], [piece]);
  await assert.rejects(readWindowsOverSsh(makeShell([new LocalShellConnection()]), windows, options(sink)), full);
});

test('ends when told to', async () => {
  const stop = new AbortController();
  const sink = new RecordingSink();
  sink.onWrite = () => stop.abort(new AppError('CANCELLED', 'by the user'));
  const windows = planWindows([{ offsetBytes: 0, lengthBytes: SIZE_BYTES }], [piece]);
  const reading = readWindowsOverSsh(makeShell([new LocalShellConnection()]), windows, {
    ...options(sink),
    signal: stop.signal,
  });
  await assert.rejects(reading, { code: 'CANCELLED' });
});

test('repeats ranges over HTTPS that fail for a moment, and no others', async () => {
  const sink = new RecordingSink();
  const windows = planWindows([{ offsetBytes: 0, lengthBytes: SIZE_BYTES }], [piece]);
  let failures = 3;
  const read = async ({ fileOffsetBytes, lengthBytes }: { fileOffsetBytes: number; lengthBytes: number }) => {
    failures -= 1;
    if (failures >= 0) throw new AppError('HOST_CONNECTION_LOST', 'cut');
    return await Promise.resolve(Buffer.from(content.subarray(fileOffsetBytes, fileOffsetBytes + lengthBytes)));
  };
  await readWindowsBy(read, windows, { ...options(sink), parallel: 2 });
  assertDelivered(sink, [{ offsetBytes: 0, lengthBytes: SIZE_BYTES }]);
  const refused = new AppError('DISK_RANGE_IGNORED', 'x');
  await assert.rejects(
    readWindowsBy(async () => await Promise.reject(refused), windows, { ...options(sink), parallel: 2 }),
    refused,
  );
});
