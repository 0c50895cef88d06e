import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { openCatalogue, type Catalogue, type SessionRecord } from '../database/index.ts';
import { createSealer } from '../queue/index.ts';
import { silentLogger, systemClock, type Clock } from '../runtime/index.ts';
import { AuditTrail, type Deed } from './audit-trail.ts';

describe('a look into the files of a version', () => {
  let folder: string;
  let catalogue: Catalogue;
  let isBroken = false;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'dozo-audit-'));
    catalogue = await openCatalogue(join(folder, 'catalogue.sqlite'));
    const transaction = catalogue.transaction.bind(catalogue);
    catalogue.transaction = (work) => (isBroken ? Promise.reject(new Error('the disk is full')) : transaction(work));
  });
  after(async () => {
    await catalogue.close();
    await rm(folder, { recursive: true, force: true });
  });

  it('is told once, and again as long as it could not be told', async () => {
    const sealer = createSealer(Buffer.alloc(32, 1));
    const audit = new AuditTrail({ catalogue, sealer, clock: systemClock, logger: silentLogger });
    const request = { ip: '192.0.2.1' } as Deed['request'];
    const deed: Deed = { session: null, request, action: 'GET /points/:id/files', outcome: 'done' };
    const told = async (): Promise<unknown[]> =>
      (await catalogue.audit.listAfter(0, 100)).map(({ action, target }) => [action, target]);

    isBroken = true;
    await audit.recordVisit(deed, 'point-1');
    isBroken = false;
    assert.deepEqual(await told(), []);

    for (const pointId of ['point-1', 'point-1', 'point-2', 'point-1']) await audit.recordVisit(deed, pointId);
    assert.deepEqual(await told(), [
      ['files opened', 'point-1'],
      ['files opened', 'point-2'],
    ]);
    assert.equal((await audit.verify()).isIntact, true);
  });
});

describe('what an account is refused', () => {
  it('is told one by one only so far and counted then, and hides nothing that was done', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'dozo-audit-'));
    const catalogue = await openCatalogue(join(folder, 'catalogue.sqlite'));
    let nowMs = 0;
    const clock: Clock = { ...systemClock, nowMs: () => nowMs, monotonicMs: () => nowMs };
    const audit = new AuditTrail({
      ...{ catalogue, clock, logger: silentLogger },
      sealer: createSealer(Buffer.alloc(32, 1)),
    });
    const deed = (userName: string, outcome: Deed['outcome']): Deed => ({
      ...{ session: { userName } as SessionRecord, request: { ip: '192.0.2.1' } as Deed['request'] },
      ...{ action: 'POST /jobs', outcome },
    });
    const told = async (actor: string): Promise<[string, unknown][]> =>
      (await catalogue.audit.listAfter(0, 1_000))
        .filter((entry) => entry.actor === actor)
        .map(({ outcome, details }) => [outcome, details['notRecordedBefore']]);

    for (let count = 0; count < 150; count += 1)
      await audit.record(deed('eve', count % 2 === 0 ? 'refused' : 'failed'));
    assert.equal((await told('eve')).length, 100);
    await audit.record(deed('eve', 'done'));
    await audit.record(deed('anna', 'refused'));
    assert.deepEqual((await told('eve')).at(-1), ['done', undefined]);
    assert.deepEqual(await told('anna'), [['refused', undefined]]);

    nowMs += 11 * 60_000;
    for (let count = 0; count < 2; count += 1) await audit.record(deed('eve', 'refused'));
    assert.deepEqual((await told('eve')).slice(-2), [
      ['refused', 50],
      ['refused', undefined],
    ]);
    assert.equal((await audit.verify()).isIntact, true);
    await catalogue.close();
    await rm(folder, { recursive: true, force: true });
  });
});
