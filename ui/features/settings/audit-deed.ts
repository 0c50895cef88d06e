import type { AuditPage } from '../../api/types.ts';

type Entry = AuditPage['entries'][number];

/** What the audit log calls something, and the word of the catalogues for it, below `audit.deed`. */
export const DEEDS: Record<string, string> = {
  login: 'login',
  'token made': 'addToken',
  'files opened': 'openFiles',
  'download begun': 'beginDownload',
  'PATCH /settings': 'changeSettings',
  'DELETE /session': 'logout',
  'POST /session/password': 'changePassword',
  'POST /session/second-factor': 'prepareSecondFactor',
  'POST /session/second-factor/confirm': 'beginSecondFactor',
  'POST /session/second-factor/end': 'endSecondFactor',
  'DELETE /sessions/:id': 'endSession',
  'DELETE /tokens/:id': 'revokeToken',
  'POST /users': 'addUser',
  'PATCH /users/:name': 'changeUser',
  'DELETE /users/:name': 'removeUser',
  'DELETE /users/:name/sessions': 'endUserSessions',
  'PUT /jobs/:id/delegates': 'changeDelegates',
  'POST /nas/folder': 'judgeFolder',
  'GET /audit/export': 'exportAudit',
  'POST /hosts/probe': 'probeHost',
  'POST /hosts': 'addHost',
  'PATCH /hosts/:id': 'changeHost',
  'DELETE /hosts/:id': 'removeHost',
  'POST /hosts/:id/test': 'testHost',
  'POST /repositories': 'createRepository',
  'POST /repositories/adopt': 'adoptRepository',
  'PATCH /repositories/:id': 'changeRepository',
  'DELETE /repositories/:id': 'removeRepository',
  'POST /repositories/:id/refresh': 'refreshRepository',
  'POST /repositories/:id/maintenance': 'maintain',
  'POST /repositories/:id/copies': 'copyVersions',
  'POST /repositories/:id/check': 'checkRepository',
  'POST /repositories/:id/keys': 'addKey',
  'DELETE /repositories/:id/keys/:slotId': 'removeKey',
  'POST /repositories/:id/keys/drill': 'tryKey',
  'POST /jobs': 'addJob',
  'PUT /jobs/:id': 'changeJob',
  'DELETE /jobs/:id': 'removeJob',
  'POST /jobs/:id/run': 'runJob',
  'PUT /jobs/:id/schedule': 'setSchedule',
  'DELETE /jobs/:id/schedule': 'removeSchedule',
  'PUT /jobs/:id/scripts': 'setScripts',
  'POST /jobs/:id/trigger': 'makeTrigger',
  'DELETE /jobs/:id/trigger': 'removeTrigger',
  'POST /triggers/:id': 'trigger',
  'PUT /jobs/:id/retention': 'setRetention',
  'POST /runs/:id/cancel': 'cancelRun',
  'POST /points/delete': 'deleteVersions',
  'POST /points/undelete': 'undeleteVersions',
  'POST /points/lock': 'lockVersions',
  'GET /points/:id/disks/:key/download': 'downloadDisk',
  // Looking is told as `files opened`; these are told when they are refused.
  'GET /points/:id/disks/:key/volumes': 'openFiles',
  'GET /points/:id/disks/:key/volumes/:volume/files': 'openFiles',
  'GET /points/:id/disks/:key/volumes/:volume/file': 'downloadFile',
  'GET /points/:id/disks/:key/volumes/:volume/archive': 'downloadFolder',
  'POST /restores': 'restore',
  'POST /exports': 'exportDisk',
  'PATCH /notifications/settings': 'changeNotifications',
  'POST /notifications/settings/test': 'testMailServer',
  'POST /notifications/recipients': 'addRecipient',
  'PUT /notifications/recipients/:id': 'changeRecipient',
  'DELETE /notifications/recipients/:id': 'removeRecipient',
  'POST /notifications/recipients/:id/test': 'testRecipient',
  'POST /notifications/deliveries/:id/retry': 'retryMessage',
  'POST /configuration/export': 'exportConfiguration',
  'POST /configuration/import': 'importConfiguration',
  'POST /configuration/import/ghettovcb': 'importGhetto',
};

/** What it was done to, as far as the entry says: a file or disk, a version, a name. */
export interface DeedSubject {
  /** As the guest or the host wrote it. */
  item: string | null;
  version: { machine: string; atMs: number } | null;
  /** Of several. */
  versions: number | null;
  name: string | null;
}

export function subjectOf({ target, details }: Entry): DeedSubject {
  const { machine, versionAtMs, versions, path, chosen, disk, name, user } = details;
  const text = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null);
  const isVersion = typeof machine === 'string' && typeof versionAtMs === 'number';
  return {
    item:
      typeof path === 'string' && typeof chosen === 'string'
        ? `${path}: ${chosen.replaceAll('/', ', ')}`
        : (text(path) ?? text(disk)),
    version: isVersion ? { machine, atMs: versionAtMs } : null,
    versions: typeof versions === 'number' ? versions : null,
    name: text(name) ?? text(user) ?? target,
  };
}
