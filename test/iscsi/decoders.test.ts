/** What the target says of its disks and of failures, read by the decoders of Debian's sg3-utils. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { serveReader } from '../../server/iscsi/index.ts';
import { identityOf } from '../../server/iscsi/device-pages.ts';
import { LogicalUnit } from '../../server/iscsi/logical-unit.ts';
import { encodeSense, SENSE } from '../../server/iscsi/sense.ts';
import { withFolder } from './scene.ts';

const IDENTITY = identityOf('one disk');
const HALF_BYTES = 512 * 1024;
const CONTENT = Buffer.concat([Buffer.alloc(HALF_BYTES), Buffer.alloc(HALF_BYTES, 'content')]);

/** A unit whose first half is zero, and what it answers. */
async function ask(writable: boolean, cdb: number[]): Promise<Buffer> {
  const reader = {
    sizeBytes: CONTENT.length,
    read: async (offsetBytes: number, lengthBytes: number) => CONTENT.subarray(offsetBytes, offsetBytes + lengthBytes),
  };
  const unit = new LogicalUnit({ ...serveReader(reader), writable }, IDENTITY, (error) => assert.fail(error));
  const padded = Buffer.concat([Buffer.from(cdb), Buffer.alloc(16)], 16);
  const nothing = { dataOut: Buffer.alloc(0), announcedBytes: 0 };
  const { status, dataIn } = await unit.execute({ cdb: padded, nexus: 'initiator', ...nothing });
  assert.equal(status, 0);
  return dataIn ?? Buffer.alloc(0);
}

/** What a decoder prints of bytes. */
async function decode(program: string, args: string[], data: Buffer): Promise<string> {
  let output = '';
  await withFolder(async (folder) => {
    const file = path.join(folder, 'answer');
    await writeFile(file, data.toString('hex').replace(/../g, '$& '));
    output = (await promisify(execFile)(program, [`--inhex=${file}`, ...args])).stdout;
  });
  return output;
}

/** Blanks that align do not matter. */
function assertSays(output: string, ...lines: string[]): void {
  const plain = (text: string): string => text.replace(/ +/g, ' ');
  for (const line of lines) assert.ok(plain(output).includes(plain(line)), `"${line}" is not in\n${output}`);
}

describe('sg3-utils reads', () => {
  it('the standard INQUIRY data', async () => {
    assertSays(
      await decode('sg_inq', [], await ask(true, [0x12, 0, 0, 0, 255])),
      'PQual=0  PDT=0  RMB=0',
      'version=0x06  [SPC-4]',
      'NormACA=0  HiSUP=0  Resp_data_format=2',
      'SCCS=0  ACC=0  TPGS=0  3PC=0  Protect=0',
      'EncServ=0  MultiP=0',
      'CmdQue=1',
      'length=74 (0x4a)   Peripheral device type: disk',
      'Vendor identification: DOZO',
      'Product identification: Disk',
      'Product revision level: 0001',
    );
  });

  const pages: [code: number, lines: string[]][] = [
    [0x00, ['[sv]', '[sn]', '[di]', '[bl]', '[bdc]', '[lbpv]']],
    [0x80, [`Unit serial number: ${IDENTITY.serial}`]],
    [
      0x83,
      [
        `Addressed logical unit:\n    designator type: NAA,  code set: Binary\n      0x${IDENTITY.naa}\n`,
        `designator type: T10 vendor identification,  code set: ASCII\n      vendor id: DOZO    \n      vendor specific: ${IDENTITY.serial}\n`,
      ],
    ],
    [
      0xb0,
      [
        'Write same non-zero (WSNZ): 1',
        'Maximum compare and write length: 128 blocks',
        'Optimal transfer length granularity: 8 blocks',
        'Maximum transfer length: 8192 blocks',
        'Optimal transfer length: 512 blocks',
        'Maximum unmap LBA count: 1048576',
        'Maximum unmap block descriptor count: 256',
        'Optimal unmap granularity: 128 blocks',
        'Unmap granularity alignment valid: false',
        'Maximum write same length: 0x2000 blocks',
        'Maximum atomic transfer length: 0 blocks',
      ],
    ],
    [0xb1, ['Non-rotating medium', 'Product type: Not specified', 'ZONED=0', 'FUAB=0']],
    [
      0xb2,
      [
        'Unmap command supported (LBPU): 1',
        'Write same (16) with unmap bit supported (LBPWS): 1',
        'Write same (10) with unmap bit supported (LBPWS10): 1',
        'Logical block provisioning read zeros (LBPRZ): 1',
        'Anchored LBAs supported (ANC_SUP): 0',
        'Descriptor present (DP): 0',
        'Provisioning type: 2 (thin provisioned)',
      ],
    ],
  ];
  for (const [code, lines] of pages) {
    it(`the page ${code.toString(16).toUpperCase().padStart(2, '0')} of vital product data`, async () => {
      const data = await ask(true, [0x12, 1, code, 0, 255]);
      assertSays(await decode('sg_vpd', [`--page=${code}`], data), ...lines);
    });
  }

  it('that a disk which may not be written is not unmapped', async () => {
    assertSays(
      await decode('sg_vpd', ['--page=0xb2'], await ask(false, [0x12, 1, 0xb2, 0, 255])),
      '(LBPU): 0',
      '(LBPWS): 0',
      '(LBPWS10): 0',
    );
    assertSays(
      await decode('sg_vpd', ['--page=0xb0'], await ask(false, [0x12, 1, 0xb0, 0, 255])),
      'Maximum unmap LBA count: 0',
    );
  });

  it('which blocks are deallocated', async () => {
    const [first, second] = [
      await ask(true, [0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24]),
      await ask(true, [0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0x04, 0x00, 0, 0, 0, 24]),
    ];
    assertSays(await decode('sg_get_lba_status', [], first), 'LBA: 0x0000000000000000 blocks: 1024 deallocated');
    assertSays(await decode('sg_get_lba_status', [], second), 'LBA: 0x0000000000000400 blocks: 1024 mapped');
  });

  const senses: Record<keyof typeof SENSE, [key: string, meaning: string]> = {
    none: ['No Sense', 'No additional sense information'],
    mediumWriteError: ['Medium Error', 'Write error'],
    mediumReadError: ['Medium Error', 'Unrecovered read error'],
    invalidInformationUnit: ['Illegal Request', 'Invalid field in command information unit'],
    parameterListLength: ['Illegal Request', 'Parameter list length error'],
    invalidOpcode: ['Illegal Request', 'Invalid command operation code'],
    lbaOutOfRange: ['Illegal Request', 'Logical block address out of range'],
    invalidFieldInCdb: ['Illegal Request', 'Invalid field in cdb'],
    unitNotSupported: ['Illegal Request', 'Logical unit not supported'],
    invalidFieldInParameters: ['Illegal Request', 'Invalid field in parameter list'],
    invalidRelease: ['Illegal Request', 'Invalid release of persistent reservation'],
    savingNotSupported: ['Illegal Request', 'Saving parameters not supported'],
    powerOn: ['Unit Attention', 'Power on, reset, or bus device reset occurred'],
    deviceReset: ['Unit Attention', 'Bus device reset function occurred'],
    reservationsPreempted: ['Unit Attention', 'Reservations preempted'],
    reservationsReleased: ['Unit Attention', 'Reservations released'],
    registrationsPreempted: ['Unit Attention', 'Registrations preempted'],
    writeProtected: ['Data Protect', 'Write protected'],
    spaceExhausted: ['Data Protect', 'Space allocation failed write protect'],
    miscompare: ['Miscompare', 'Miscompare during verify operation'],
  };
  it('the sense of every failure', async () => {
    for (const [name, code] of Object.entries(SENSE)) {
      const [key, meaning] = senses[name as keyof typeof SENSE];
      const { stdout } = await promisify(execFile)('sg_decode_sense', ['--nospace', encodeSense(code).toString('hex')]);
      assertSays(stdout, 'Fixed format, current', `Sense key: ${key}\n`, `Additional sense: ${meaning}\n`);
    }
    const { stdout } = await promisify(execFile)('sg_decode_sense', [
      '--nospace',
      encodeSense(SENSE.miscompare, 1234).toString('hex'),
    ]);
    assertSays(stdout, '=0x4d2 [1234]');
  });
});
