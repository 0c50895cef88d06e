import type { RecipientView } from '../api/types.ts';

/** By which ways messages get anywhere: mail needs a server, the notifications of a NAS need a NAS. */
export interface Ways {
  mail: boolean;
  nas: boolean;
}

export function reachesSomebody({ channel }: Pick<RecipientView, 'channel'>, ways: Ways): boolean {
  return channel.kind === 'webhook' || ways[channel.kind];
}

/** Whether anybody would hear of a backup that failed, as far as the settings tell. */
export function isSomebodyTold(
  recipients: readonly Pick<RecipientView, 'enabled' | 'results' | 'channel'>[],
  ways: Ways,
): boolean {
  return recipients.some(
    (recipient) => recipient.enabled && recipient.results.includes('failure') && reachesSomebody(recipient, ways),
  );
}
