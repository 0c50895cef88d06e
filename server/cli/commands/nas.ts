import type { Command } from 'commander';
import type { FolderView, NasView } from '../../contract/api/nas.schema.ts';
import { formatBytes } from '../../runtime/index.ts';
import { showOutput, type CommandContext } from '../command-context.ts';

export function addNasCommands(program: Command, context: CommandContext): void {
  const nas = program.command('nas').description('the NAS that Dozo runs on');
  context.handle(context.leaf(nas, 'show', 'shared folders, and what to know of them'), async ({ api }) => {
    const view = await api.get<NasView>('/nas');
    return showOutput(view, [
      ['system', view.name],
      ['port', String(view.port.actual)],
      ...view.shares.map((share) => [share.name, describe(share)] as const),
      ...[...view.advice, ...view.shares.flatMap(({ advice }) => advice)].map(
        ({ level, text }) => [level, text] as const,
      ),
    ]);
  });
  context.handle(context.leaf(nas, 'folder <path>', 'try out a folder for a repository'), async ({ api, args }) => {
    const folder = await api.post<FolderView>('/nas/folder', { path: args[0] });
    return showOutput(folder, [
      ['folder', describe(folder)],
      ...folder.advice.map(({ level, text }) => [level, text] as const),
    ]);
  });
}

function describe({ path, fileSystem, freeBytes, isWritable }: FolderView): string {
  const free = freeBytes === null ? '' : `, ${formatBytes(freeBytes)} free`;
  return `${path} (${fileSystem ?? 'not there'}${free}${isWritable ? '' : ', not writable'})`;
}
