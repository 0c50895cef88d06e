import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import type { z } from 'zod';
import type { GuestFileView, GuestFolderPage, guestVolumesSchema } from '../../contract/api/guest-file.schema.ts';
import type { Language } from '../../contract/api/notification.schema.ts';
import type { pointPageSchema, PointsChanged, PointView } from '../../contract/api/point.schema.ts';
import { AppError } from '../../errors/index.ts';
import { formatBytes } from '../../runtime/index.ts';
import {
  doneOutput,
  EXIT_DONE,
  EXIT_FAILED,
  listOutput,
  showOutput,
  type Api,
  type CommandContext,
} from '../command-context.ts';
import { openAnswer } from '../connection.ts';
import { findNamed, type Named } from '../find-named.ts';
import { formatTime } from '../format.ts';
import { oneOf, parseInteger, parseTime } from '../parse-options.ts';

interface ListOptions {
  trash?: boolean;
  vm?: string;
  repository?: string;
  refresh?: boolean;
  limit: number;
}

const PAGE_MAX = 500;

export function addPointCommands(program: Command, context: CommandContext): void {
  const points = program.command('points').alias('versions').description('versions of VMs');
  const list = context
    .leaf(points, 'list', 'versions, newest first')
    .option('--vm <vm>', 'of one VM')
    .option('--repository <repository>', 'in one repository')
    .option('--refresh', 'look into the repositories first')
    .option('--limit <number>', 'at most so many', parseInteger(1, 1_000_000), 50);
  context.handle<ListOptions>(list, async ({ api, options }) =>
    listOutput(await listPoints(api, options), ['ID', 'VM', 'TIME', 'STATE', 'CONSISTENT', 'SIZE'], (point) => [
      point.id,
      point.machineName,
      formatTime(point.createdAtMs),
      point.state,
      point.consistency ?? '-',
      formatBytes(point.sizeBytes),
    ]),
  );
  const trash = context
    .leaf(points, 'trash', 'versions that were deleted and can be brought back')
    .option('--vm <vm>', 'of one VM')
    .option('--repository <repository>', 'in one repository')
    .option('--limit <number>', 'at most so many', parseInteger(1, 1_000_000), 50);
  context.handle<ListOptions>(trash, async ({ api, options }) =>
    listOutput(
      await listPoints(api, { ...options, trash: true }),
      ['ID', 'VM', 'TIME', 'DELETED', 'GONE AFTER', 'WHY'],
      (point) => [
        point.id,
        point.machineName,
        formatTime(point.createdAtMs),
        formatTime(point.trash?.deletedAtMs ?? null),
        formatTime(point.trash?.keepUntilMs ?? null),
        point.trash?.reason ?? '-',
      ],
    ),
  );
  addChangeCommands(points, context);
  context.handle(context.leaf(points, 'show <point>', 'one version'), async ({ api, args }) => {
    const point = await api.get<PointView>(`/points/${encodeURIComponent(args[0] ?? '')}`);
    return showOutput(point, [
      ['id', point.id],
      ['VM', point.machineName],
      ['time', formatTime(point.createdAtMs)],
      ['state', [point.state, ...point.stateReasons].join(' ')],
      ['consistency', point.consistency ?? '-'],
      ['root hash', point.rootHash ?? '-'],
      ['locked until', formatTime(point.lockedUntilMs)],
      ['trash', point.trash === null ? '-' : `gone after ${formatTime(point.trash.keepUntilMs)}`],
      ...point.disks.map(
        (disk) =>
          [disk.key, `${disk.label}, ${formatBytes(disk.sizeBytes)}, stored ${formatBytes(disk.storedBytes)}`] as const,
      ),
    ]);
  });
  context.handle(
    context.leaf(points, 'download <point> <disk> <file>', 'a disk as a raw image into a file here'),
    async ({ connection, args }) => {
      const [, , file = ''] = args;
      const [id, key] = encoded(args);
      const bytes = await downloadTo(connection, `/points/${id}/disks/${key}/download`, file);
      return doneOutput({ file, bytes }, `Wrote ${formatBytes(bytes)} to ${file}.`);
    },
  );
  addGuestFileCommands(points, context);
}

const UNSETTLED = 'was at work: files changed in its last moments may be old or missing';

/** Looks into the file systems on a version's disk. */
function addGuestFileCommands(points: Command, context: CommandContext): void {
  context.handle(
    context.leaf(points, 'volumes <point> <disk>', 'volumes on a disk of a version'),
    async ({ api, args }) => {
      const [id, key] = encoded(args);
      const { volumes } = await api.get<z.infer<typeof guestVolumesSchema>>(`/points/${id}/disks/${key}/volumes`);
      return listOutput(volumes, ['VOLUME', 'FILE SYSTEM', 'LABEL', 'SIZE', 'NOTE'], (volume) => [
        String(volume.number),
        volume.fileSystem ?? '-',
        [volume.name, volume.label].filter((word) => word !== undefined && word !== '').join(' '),
        formatBytes(volume.sizeBytes),
        volume.unreadable ?? volume.holds ?? (volume.isUnsettled === true ? UNSETTLED : ''),
      ]);
    },
  );
  context.handle(
    context.leaf(points, 'files <point> <disk> <volume> [path]', 'a folder on a volume of a version'),
    async ({ api, args }) => {
      const [id, key, volume] = encoded(args);
      const entries = await listFolder(api, `/points/${id}/disks/${key}/volumes/${volume}/files`, args[3]);
      return listOutput(entries, ['NAME', 'KIND', 'SIZE', 'CHANGED'], (entry) => [
        // A guest's name may hold what acts on a terminal.
        JSON.stringify(entry.name).slice(1, -1),
        entry.type,
        entry.type === 'file' ? formatBytes(entry.sizeBytes) : '-',
        formatTime(entry.modifiedAtMs),
      ]);
    },
  );
  context.handle(
    context.leaf(points, 'file <point> <disk> <volume> <path> <file>', 'one file of a volume into a file here'),
    async ({ connection, args }) => {
      const [id, key, volume, inner] = encoded(args);
      const path = `/points/${id}/disks/${key}/volumes/${volume}/file`;
      const file = args[4] ?? '';
      const bytes = await downloadTo(connection, `${path}?path=${inner}`, file);
      return doneOutput({ file, bytes }, `Wrote ${formatBytes(bytes)} to ${file}.`);
    },
  );
  const folder = context
    .leaf(
      points,
      'folder <point> <disk> <volume> <path> <file>',
      'a folder of a volume, with all that is in it, into a ZIP archive here',
    )
    .option('--language <language>', 'of the list of what is left out: en, de or ja', oneOf(['en', 'de', 'ja']), 'en')
    .option('--only <name...>', 'of what is in the folder, only these files and folders');
  context.handle<{ language: Language; only?: string[] }>(folder, async ({ connection, args, options }) => {
    const [id, key, volume, inner] = encoded(args);
    const path = `/points/${id}/disks/${key}/volumes/${volume}/archive`;
    const file = args[4] ?? '';
    if (options.only?.some((name) => name.includes('/')) === true) {
      throw new AppError('INPUT_INVALID', '--only takes names of what is in the folder, not paths.');
    }
    const names = options.only === undefined ? '' : `&names=${encodeURIComponent(options.only.join('/'))}`;
    const bytes = await downloadTo(connection, `${path}?path=${inner}&language=${options.language}${names}`, file);
    return doneOutput({ file, bytes }, `Wrote ${formatBytes(bytes)} to ${file}.`);
  });
}

/** Arguments as parts of a path or query. */
function encoded([id = '', key = '', volume = '', inner = '']: readonly string[]): [string, string, string, string] {
  return [encodeURIComponent(id), encodeURIComponent(key), encodeURIComponent(volume), encodeURIComponent(inner)];
}

async function listFolder(api: Api, url: string, path = '/'): Promise<GuestFileView[]> {
  const entries: GuestFileView[] = [];
  let from: number | undefined;
  for (;;) {
    const page: GuestFolderPage = await api.get<GuestFolderPage>(url, { path, from, limit: 1000 });
    entries.push(...page.entries);
    if (page.next === null) return entries;
    from = page.next;
  }
}

interface ChangeOptions {
  repository?: string;
}

function addChangeCommands(points: Command, context: CommandContext): void {
  const change = <Options extends ChangeOptions>(
    usage: string,
    description: string,
    act: { path: string; done: string; body(options: Options): Record<string, unknown> },
  ): Command => {
    const command = context
      .leaf(points, `${usage} <points...>`, description)
      .option('--repository <repository>', 'where copies of them lie as well');
    context.handle<Options>(command, async ({ api, args, options }) => {
      const { repository } = options;
      const answer = await api.post<PointsChanged>(act.path, {
        pointIds: args,
        ...(repository === undefined
          ? {}
          : { repositoryId: (await findNamed<Named>(api, 'repositories', repository)).id }),
        ...act.body(options),
      });
      const lines = answer.failed.map(({ pointId, error }) => `${pointId}: ${error.message} ${error.hint ?? ''}\n`);
      const text = `${answer.points.length - answer.failed.length} ${act.done}.\n${lines.join('')}`;
      return { document: answer, text, exitStatus: answer.failed.length === 0 ? EXIT_DONE : EXIT_FAILED };
    });
    return command;
  };
  change<ChangeOptions & { days?: number }>('delete', 'move versions to the trash', {
    path: '/points/delete',
    done: 'in the trash',
    body: ({ days }) => (days === undefined ? {} : { trashDays: days }),
  }).option('--days <number>', 'how long they can be brought back; else as set', parseInteger(0, 3660));
  change('undelete', 'bring versions back from the trash', {
    path: '/points/undelete',
    done: 'brought back',
    body: () => ({}),
  });
  change<ChangeOptions & { until: number }>('lock', 'let nobody delete versions before a time; cannot be taken back', {
    path: '/points/lock',
    done: 'locked',
    body: ({ until }) => ({ untilMs: until }),
  }).requiredOption('--until <time>', 'like 2027-01-31 or 2027-01-31T12:00Z', parseTime);
}

/** Under a temporary name first: a download that broke off is not taken for a disk. */
async function downloadTo(connection: Parameters<typeof openAnswer>[0], path: string, target: string): Promise<number> {
  const answer = await openAnswer(connection, { method: 'GET', path });
  // Of what is sent in chunks the end is marked: without the mark the pipeline fails.
  const length = answer.headers['content-length'];
  const temporary = `${target}.part`;
  try {
    const file = createWriteStream(temporary, { flags: 'wx' });
    await pipeline(answer, file);
    if (length !== undefined && file.bytesWritten !== Number(length)) {
      throw new AppError('SERVER_UNREACHABLE', 'The download broke off.', { hint: 'Try again.' });
    }
    await rename(temporary, target);
    return file.bytesWritten;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
      throw new AppError('CONFLICT', `${temporary} is there already.`, { hint: 'Remove it first.', cause: error });
    }
    await rm(temporary, { force: true });
    throw error;
  }
}

async function listPoints(api: Api, options: ListOptions): Promise<PointView[]> {
  const machineId = options.vm === undefined ? undefined : (await findNamed<Named>(api, 'machines', options.vm)).id;
  const repositoryId =
    options.repository === undefined ? undefined : (await findNamed<Named>(api, 'repositories', options.repository)).id;
  const points: PointView[] = [];
  let before: string | undefined;
  while (points.length < options.limit) {
    const page = await api.get<z.infer<typeof pointPageSchema>>('/points', {
      machineId,
      repositoryId,
      trash: options.trash,
      refresh: before === undefined ? options.refresh : undefined,
      limit: Math.min(PAGE_MAX, options.limit - points.length),
      before,
    });
    points.push(...page.points);
    if (page.next === null) break;
    before = page.next;
  }
  return points;
}
