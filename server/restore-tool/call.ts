import { AppError } from '../errors/index.ts';
import type { PointListing, Repository } from '../repository/index.ts';
import { formatBytes, GIB } from '../runtime/index.ts';
import type { ToolStreams } from './tool-streams.ts';

/** What a command is called with. */
export interface Call {
  repository: Repository;
  listings: PointListing[];
  /** What follows the command's name. */
  args: string[];
  values: CallValues;
  streams: ToolStreams;
}

export interface CallValues {
  disk?: string | undefined;
  format: string;
  json: boolean;
  root?: string | undefined;
  volume?: string | undefined;
}

/** An id, the beginning of exactly one, or a machine's name: then its newest version that can be read. */
export function findVersion(listings: readonly PointListing[], wanted: string): string {
  const exact = listings.find(({ pointId }) => pointId === wanted);
  if (exact !== undefined) return exact.pointId;
  const beginning = listings.filter(({ pointId }) => pointId.startsWith(wanted));
  if (beginning.length === 1 && beginning[0] !== undefined) return beginning[0].pointId;
  const ofMachine = listings.findLast(({ manifest }) => manifest?.machineName === wanted);
  if (ofMachine !== undefined) return ofMachine.pointId;
  throw new AppError('POINT_NOT_FOUND', `There is no version or machine ${wanted}, or more than one.`, {
    hint: 'See the list of versions.',
  });
}

interface Meter {
  add(label: string, bytes: number): void;
  show(label: string, doneBytes: number, totalBytes: number): void;
  end(): void;
}

/** Progress on the error stream where that is a terminal; nothing elsewhere. */
export function progressMeter({ errors }: ToolStreams): Meter {
  const isTerminal = 'isTTY' in errors && errors.isTTY === true;
  let doneBytes = 0;
  let shownBytes = 0;
  const write = (text: string): void => {
    if (isTerminal) errors.write(`\r\u001b[K${text}`);
  };
  return {
    add: (label, bytes) => {
      doneBytes += bytes;
      if (doneBytes - shownBytes < GIB / 16) return;
      shownBytes = doneBytes;
      write(`${label} ${formatBytes(doneBytes)}`);
    },
    show: (label, done, total) => write(`${label} ${formatBytes(done)} of ${formatBytes(total)}`),
    end: () => write(''),
  };
}

/** What a repository says may hold anything; what could command the terminal is shown as a question mark. */
export function clean(text: string): string {
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]/g, '?');
}
