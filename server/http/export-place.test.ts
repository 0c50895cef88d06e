import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { isAppError } from '../errors/index.ts';
import { placeExport } from './export-place.ts';

type Services = Parameters<typeof placeExport>[0];

describe('the place of an export', () => {
  let root: string;
  before(() => {
    root = realpathSync(mkdtempSync(join(tmpdir(), 'dozo-export-place-')));
    for (const folder of ['Dozo/main/packs', 'Dozo/disks', 'homes/alice/.ssh', 'Dozo/@eaDir', 'etc/cron.d', 'Dozo2']) {
      mkdirSync(join(root, folder), { recursive: true });
    }
    symlinkSync(join(root, 'etc/cron.d'), join(root, 'Dozo/timetable'));
    symlinkSync(join(root, 'Dozo/main'), join(root, 'Dozo/elsewhere'));
  });
  after(() => rmSync(root, { recursive: true, force: true }));

  function place(path: string, who: 'operator' | 'administrator', shares = ['Dozo', 'homes']): Promise<string> {
    const services = {
      nas: { listShares: async () => shares.map((name) => ({ name, path: join(root, name) })) },
      orchestration: {
        context: {
          catalogue: { repositories: { list: async () => [{ name: 'main', path: join(root, 'Dozo/main') }] } },
        },
      },
    } as unknown as Services;
    const permissions = who === 'administrator' ? (['operate', 'configure'] as const) : (['operate'] as const);
    return placeExport(services, { role: who, permissions }, join(root, path));
  }
  const refusedWith = (code: string) => (error: unknown) => isAppError(error) && error.code === code;

  it('is a shared folder for those who may not configure Dozo', async () => {
    for (const path of ['Dozo/disk.img', 'Dozo/disks/web 1.VMDK', 'homes/alice/disk.raw']) {
      assert.equal(await place(path, 'operator'), join(root, path));
    }
  });

  it('is no place at which it could be taken for something else', async () => {
    for (const path of [
      'etc/cron.d/disk.img',
      'Dozo/timetable/disk.img',
      'Dozo2/disk.img',
      'homes/alice/.ssh/disk.img',
      'homes/alice/.profile.img',
      'Dozo/..img',
      'Dozo/@eaDir/disk.img',
      'Dozo/index.php',
      'Dozo/disk',
      'Dozo/missing/disk.img',
      'Dozo',
      'disk.img',
    ]) {
      await assert.rejects(place(path, 'operator'), refusedWith('FORBIDDEN'), path);
    }
    await assert.rejects(place('Dozo/disk.img', 'operator', []), refusedWith('FORBIDDEN'), 'without shared folders');
  });

  it('is any other for an administrator', async () => {
    for (const path of ['etc/cron.d/disk.img', 'Dozo/index.php', 'Dozo/missing/disk.img']) {
      assert.equal(await place(path, 'administrator'), join(root, path));
    }
  });

  it('is never a repository', async () => {
    for (const who of ['operator', 'administrator'] as const) {
      for (const path of ['Dozo/main/disk.img', 'Dozo/main/packs/disk.img', 'Dozo/elsewhere/packs/disk.img']) {
        await assert.rejects(place(path, who), refusedWith('CONFLICT'), path);
      }
    }
  });
});
