import type { HostProfile } from './host-profile.ts';
import type { Switches } from './protocol.ts';

/** A healthy host of that version. */
export function defaultSwitches(profile: HostProfile): Switches {
  return {
    ssh: 'on',
    sshHostKeyChanged: false,
    killSessionAfterBytes: null,
    killSessionsMax: null,
    missingTools: [],
    python3: true,
    execInstalledOnly: profile.execInstalledOnly,
    loginFailuresMax: 5,
    lockoutMs: 900_000,
    lockdown: 'lockdownDisabled',
    role: 'administrator',
    vimCmdDelayMs: 0,
    hang: false,
    snapshotCreate: 'works',
    snapshotCreateMs: 100,
    snapshotRemove: 'works',
    snapshotRemoveMs: 100,
    quiesce: 'works',
    quiesceMs: 100,
    rawFrozenRead: {},
    datastoresFull: [],
    cloneFailAtPercent: null,
    cloneBytesPerSecond: null,
    cloneWaitsAtPercent: null,
    consolidateBytesPerSecond: null,
    parallelClone: 'refuse',
    frozenCloneBug: profile.version === '7.0.1',
    nfsMount: 'works',
    iscsiEnable: 'works',
    iscsiPath: 'works',
    iscsiPathTimeoutMs: 3000,
    iscsiRescanMs: 0,
    iscsiSecret: 'right',
    iscsiTargetChap: 'works',
    iscsiChangeWaitsAt: null,
    iscsiDeviceName: 'naa',
    rdmClone: 'both',
    rdmHoles: 'write-same',
    changedAreas: 'works',
    changedAreasMax: 2000,
    revertTracking: 'new-epoch',
    freeChangedAreas: 'answer',
    keepTruth: false,
    writersPaused: false,
    https: 'on',
    httpsCertificateChanged: false,
    soapForgetSessions: 0,
    hostClientCookieBypass: false,
    soapPageSizeMax: null,
    soapDelayMs: 0,
    taskQueuedMs: 0,
    folderRange: 'works',
    folderBytesPerSecond: null,
    folderCutAfterBytes: null,
    folderWrites: 'refuse',
  };
}

/** Takes known names only; a misspelt fault would make a test pass for the wrong reason. */
export function mergeSwitches(current: Switches, change: Record<string, unknown>): Switches {
  for (const [name, value] of Object.entries(change)) {
    if (!(name in current)) throw new Error(`no switch is called ${name}`);
    if (value === undefined) throw new Error(`switch ${name} has no value`);
  }
  return { ...current, ...change };
}
