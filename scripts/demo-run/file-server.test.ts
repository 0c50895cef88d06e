import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { findVolumes } from '../../server/filesystem/index.ts';
import { readImage } from '../../test/guest-images/ext4-image.ts';
import { FILE_SERVER_DISK_BYTES, makeFileServerDisk } from './file-server.ts';

it('the file server of the demonstration has files that can be restored one by one', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'dozo-file-server-'));
  try {
    const disk = await readImage(await makeFileServerDisk(folder));
    assert.equal(disk.sizeBytes, FILE_SERVER_DISK_BYTES);
    const [volume] = await findVolumes(disk);
    assert.equal(volume?.system?.kind, 'ext4');
    const file = await volume.system.open('/srv/office/Handbücher/glossary.md');
    const source = await readFile(join(import.meta.dirname, '../../docs/glossary.md'));
    assert.ok(source.equals(await file.read(0, file.sizeBytes)));
    await disk.close();
  } finally {
    await rm(folder, { recursive: true });
  }
});
