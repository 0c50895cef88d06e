/**
 * What the target says of its disks and of failures, read by the decoders of Debian's sg3-utils; and the same programs
 * at work on a disk over iSCSI.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { openFileDisk, serveReader } from '../../server/iscsi/index.ts';
import { identityOf } from '../../server/iscsi/device-pages.ts';
import { LogicalUnit } from '../../server/iscsi/logical-unit.ts';
import { encodeSense, SENSE } from '../../server/iscsi/sense.ts';
import { runClient, withFolder, withTarget } from './scene.ts';

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

describe('sg3-utils at work over iSCSI', () => {
  const bytes = 40 * 1024 * 1024;
  /** Each program, its exit status, and what it prints. */
  const programs: [command: string, status: number, lines: string[]][] = [
    [
      'sg_readcap -l',
      0,
      [
        'Protection: prot_en=0',
        'lbpme=1, lbprz=1',
        'Last LBA=81919 (0x13fff), Number of logical blocks=81920',
        'Logical block length=512 bytes',
        'Logical blocks per physical block exponent=0',
        'Lowest aligned LBA=0',
      ],
    ],
    ['sg_readcap', 0, ['Number of logical blocks=81920']],
    [
      'sg_modes -a',
      0,
      [
        'Mode data length=72, medium type=0x00, WP=0, DpoFua=1, longlba=0',
        'Block descriptor length=8',
        '00     00 01 40 00 00 00 02 00',
        '>> Read-Write error recovery, page_control: current\n 00     01 0a 00 00 00 00 00 00  00 00 00 00',
        '>> Caching, page_control: current\n 00     08 12 04 00',
        '>> Control, page_control: current\n 00     0a 0a 00 10 00 00 00 00  ff ff 00 00',
        '>> Informational exceptions control, page_control: current\n 00     1c 0a 00 00 00 00 00 00  00 00 00 00',
      ],
    ],
    ['sg_modes -6 -a', 0, ['Mode data length=68, medium type=0x00, WP=0, DpoFua=1', 'Block descriptor length=8']],
    ['sg_modes -c 1 -p 8', 0, ['>> Caching, page_control: changeable\n 00     08 12 00 00']],
    [
      'sg_opcodes',
      0,
      [
        '00                  6    0,0    Test Unit Ready',
        '1b                  6    0,0    Start stop unit',
        '42                 10    0,0    Unmap',
        '5f        6        10    0,0    Persistent reserve out, register and ignore existing key',
        '89                 16    0,0    Compare and write',
        '9e       12        16    0,0    Get LBA status(16)',
        'a3        c        12    0,0    Report supported operation codes',
      ],
    ],
    ['sg_opcodes --rctd', 0, ['af                 12         -          -    Verify(12)']],
    [
      'sg_opcodes -o 0x89 -m',
      0,
      [
        'Command is supported [conforming to SCSI standard]',
        'Usage data: 89 f8 ff ff ff ff ff ff ff ff 00 00 00 ff 00 00',
      ],
    ],
    ['sg_opcodes -o 0x04', 0, ['Command is NOT supported']],
    ['sg_luns', 0, ['1 lun entry', '0000000000000000']],
    ['sg_persist -k', 0, ['there are NO registered reservation keys']],
    ['sg_persist --out --register --param-sark=abc', 0, []],
    ['sg_persist -k', 0, ['1 registered reservation key follows:\n 0xabc']],
    ['sg_persist -s', 0, ['Key=0xabc', 'iSCSI world wide unique port id: iqn.2020-01.test.dozo:own,i,0x']],
    ['sg_persist -c', 0, ['(PTPL_C): 0', 'Write Exclusive: 1', 'Exclusive Access, all registrants: 1']],
    ['sg_start --start', 0, []],
    ['sg_start --stop', 0, []],
    ['sg_turs', 0, []],
    ['sg_start --eject', 5, ['Illegal request']],
    ['sg_start --load', 5, ['Illegal request']],
    ['sg_start --pc=3', 5, ['Illegal request']],
    ['sg_sync', 0, []],
    ['sg_requests', 0, ['Sense key: No Sense']],
    ['sg_get_lba_status --lba=0', 0, ['LBA: 0x0000000000000000 blocks: 2048 deallocated']],
    ['sg_write_same --16 --lba=0 --num=16 --ff', 0, []],
    ['sg_get_lba_status --lba=0', 0, ['LBA: 0x0000000000000000 blocks: 16 mapped']],
    ['sg_unmap --lba=0 --num=16 -f', 0, []],
    ['sg_get_lba_status --lba=0', 0, ['LBA: 0x0000000000000000 blocks: 2048 deallocated']],
    ['sg_verify --lba=81919 --count=1', 0, []],
    ['sg_verify --lba=81919 --count=2', 22, ['LBA out of range']],
  ];

  it('have each command and answer as they should be', async () => {
    await withTarget(
      {
        open: async (folder) => {
          await writeFile(path.join(folder, 'disk.img'), '');
          await truncate(path.join(folder, 'disk.img'), bytes);
          return openFileDisk(path.join(folder, 'disk.img'), { writable: true });
        },
      },
      async ({ folder, url }) => {
        const library = path.join(folder, 'sg-io.so');
        const source = path.join(import.meta.dirname, 'sg-io.c');
        await promisify(execFile)('gcc', [
          '-shared',
          '-fPIC',
          '-Wall',
          '-O1',
          '-o',
          library,
          source,
          '-liscsi',
          '-ldl',
        ]);
        const env = { LD_PRELOAD: library, SG_URL: url, SG_INITIATOR: 'iqn.2020-01.test.dozo:own' };
        for (const [command, status, lines] of programs) {
          const { output, ...ended } = await runClient('env', [
            ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
            ...command.split(' '),
            '/dev/null',
          ]);
          assert.equal(ended.status, status, `${command}: ${output}`);
          assertSays(output, ...lines);
        }
      },
    );
  });
});
