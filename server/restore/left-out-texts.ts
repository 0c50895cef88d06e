import type { Language } from '../contract/api/notification.schema.ts';

/** Why something of a guest's folder is not in its archive. */
export type LeftOutReason =
  | { kind: 'link'; target: string | null }
  /** Devices, pipes and their like. */
  | { kind: 'special' }
  | { kind: 'tooDeep' }
  | { kind: 'longPath' }
  /** @property message in English, for whoever has to look into it */
  | { kind: 'unreadable'; message: string };

/** The text file in an archive that names what is not in it. */
export const LEFT_OUT_TEXTS: Record<Language, { fileName: string; tell(why: LeftOutReason): string }> = {
  en: {
    fileName: 'Not in this archive.txt',
    tell: (why) => {
      if (why.kind === 'link') return why.target === null ? 'a link' : `a link to ${why.target}`;
      if (why.kind === 'unreadable') return `cannot be read (${why.message})`;
      return { special: 'neither a file nor a folder', tooDeep: 'lies too deep', longPath: 'its path is too long' }[
        why.kind
      ];
    },
  },
  de: {
    fileName: 'Nicht in diesem Archiv.txt',
    tell: (why) => {
      if (why.kind === 'link') return why.target === null ? 'eine Verknüpfung' : `eine Verknüpfung mit ${why.target}`;
      if (why.kind === 'unreadable') return `nicht lesbar (${why.message})`;
      return {
        special: 'weder eine Datei noch ein Ordner',
        tooDeep: 'liegt zu tief',
        longPath: 'der Pfad ist zu lang',
      }[why.kind];
    },
  },
  ja: {
    fileName: 'このアーカイブに含まれないもの.txt',
    tell: (why) => {
      if (why.kind === 'link') return why.target === null ? 'リンク' : `${why.target} へのリンク`;
      if (why.kind === 'unreadable') return `読み取れません（${why.message}）`;
      return {
        special: 'ファイルでもフォルダーでもありません',
        tooDeep: 'フォルダーの階層が深すぎます',
        longPath: 'パスが長すぎます',
      }[why.kind];
    },
  },
};
