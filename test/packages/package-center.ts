import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import type { Spk } from './archives.ts';
import { readValues, type NasRoot, type NasSession } from './nas-root.ts';

/** As DSM numbers users of packages. */
export const PACKAGE_USER = 108_668;
const PACKAGE = '/var/packages/Dozo';
const SCRIPTS = `${PACKAGE}/scripts`;
/** Folders of a package on its volume, by the link that leads there. */
const FOLDERS = { target: '@appstore', var: '@appdata', tmp: '@apptemp', home: '@apphome', etc: '@appconf' } as const;

export interface PackageCenterOptions {
  user?: number;
  volume?: string;
  /** As DSM names it. */
  language?: string;
  /** Of DSM: 7.2 where nothing is said. */
  version?: [major: string, minor: string];
  /** Besides what Package Center sets. */
  environment?: Record<string, string>;
  /** The answers of a wizard. */
  answers?: Record<string, string>;
}

/** How a chain of scripts ended. */
export interface ChainResult {
  /** The script that did not end well; null: all did. */
  failedAt: string | null;
  /** What the user reads in the dialog. */
  dialog: string;
  output: string;
}

/** What is at work goes on: nothing was touched. */
const NO_ROOM: ChainResult = { failedAt: 'extract', dialog: '', output: '' };

/** What Package Center does with a package for DSM, in its order, as its scripts see it. */
export class PackageCenter {
  readonly #root: NasRoot;
  readonly #session: NasSession;
  readonly #user: number;
  readonly #language: string;
  readonly #version: [major: string, minor: string];
  readonly #more: Record<string, string>;
  #volume: string;

  /** @param session run by the same user */
  constructor(root: NasRoot, session: NasSession, options: PackageCenterOptions = {}) {
    this.#root = root;
    this.#session = session;
    this.#user = options.user ?? PACKAGE_USER;
    this.#volume = options.volume ?? 'volume1';
    this.#language = options.language ?? 'enu';
    this.#version = options.version ?? ['7', '2'];
    this.#more = options.environment ?? {};
  }

  /** Below the root, without a slash in front. */
  get state(): string {
    return `${this.#volume}/@appdata/Dozo/dozo`;
  }

  async install(
    spk: Spk,
    options: { answers?: Record<string, string>; isStarted?: boolean } = {},
  ): Promise<ChainResult> {
    const { answers = {}, isStarted = true } = options;
    if (!this.#extract(spk)) return NO_ROOM;
    return this.#chain('INSTALL', answers, [
      ['preinst', '/tmp/synopkg/scripts/preinst'],
      () => this.#place(spk),
      ['postinst', `${SCRIPTS}/postinst`],
      ...(isStarted ? startSteps : []),
    ]);
  }

  /** Of a package that is at work. The same version again is a repair. @param answers of a wizard, as none has asked */
  async upgrade(spk: Spk, answers: Record<string, string> = {}): Promise<ChainResult> {
    if (!this.#extract(spk)) return NO_ROOM;
    return this.#chain('UPGRADE', answers, [
      ...stopSteps,
      ['preupgrade', '/tmp/synopkg/scripts/preupgrade'],
      ['preuninst', `${SCRIPTS}/preuninst`],
      ['postuninst', `${SCRIPTS}/postuninst`],
      ['preinst', '/tmp/synopkg/scripts/preinst'],
      () => this.#place(spk),
      ['postinst', `${SCRIPTS}/postinst`],
      ['postupgrade', `${SCRIPTS}/postupgrade`],
      ...startSteps,
    ]);
  }

  async uninstall(answers: Record<string, string> = {}): Promise<ChainResult> {
    const result = await this.#chain('UNINSTALL', answers, [
      ...stopSteps,
      ['preuninst', `${SCRIPTS}/preuninst`],
      ['postuninst', `${SCRIPTS}/postuninst`],
    ]);
    for (const link of ['target', 'tmp'] as const) rmSync(this.#folder(link), { recursive: true, force: true });
    rmSync(this.#root.path('var/packages/Dozo'), { recursive: true, force: true });
    return result;
  }

  start(): Promise<ChainResult> {
    return this.#chain('START', {}, startSteps);
  }

  /** As at the start of the NAS: no status is told. */
  boot(): Promise<ChainResult> {
    return this.#chain('', {}, startSteps);
  }

  stop(): Promise<ChainResult> {
    return this.#chain('STOP', {}, stopSteps);
  }

  /** Stops, carries everything of the package to another volume, and starts there. */
  async move(volume: string): Promise<ChainResult> {
    const stopped = await this.stop();
    if (stopped.failedAt !== null) return stopped;
    for (const [link, name] of Object.entries(FOLDERS)) {
      const from = this.#root.path(`${this.#volume}/${name}/Dozo`);
      const to = this.#root.path(`${volume}/${name}`);
      mkdirSync(to, { recursive: true });
      execFileSync('cp', ['-a', from, to]);
      rmSync(from, { recursive: true });
      rmSync(this.#root.path(`var/packages/Dozo/${link}`));
      symlinkSync(`/${volume}/${name}/Dozo`, this.#root.path(`var/packages/Dozo/${link}`));
    }
    this.#volume = volume;
    return this.start();
  }

  /** Exit status of the verb `status`. */
  async status(): Promise<number> {
    const output = await this.#session.run(
      `sh ${SCRIPTS}/start-stop-status status; echo status=$?`,
      this.#environment(''),
    );
    return Number(readValues(output)['status']);
  }

  #folder(link: keyof typeof FOLDERS): string {
    return this.#root.path(`${this.#volume}/${FOLDERS[link]}/Dozo`);
  }

  /** Before anything of the package runs, on its volume. @returns whether there was room */
  #extract(spk: Spk): boolean {
    for (const folder of ['tmp/synopkg', this.#extracted]) {
      rmSync(this.#root.path(folder), { recursive: true, force: true });
    }
    this.#root.unpack(
      [...spk.members.values()].filter(({ name }) => name.startsWith('scripts')),
      'tmp/synopkg',
    );
    try {
      this.#root.unpack(spk.payload, `${this.#extracted}/package`);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      rmSync(this.#root.path(this.#extracted), { recursive: true, force: true });
      return false;
    }
  }

  get #extracted(): string {
    return `${this.#volume}/@tmp/synopkg`;
  }

  /** Program and temporary files are replaced; what is kept stays whosever it is. */
  #place(spk: Spk): Promise<void> {
    for (const link of ['target', 'tmp'] as const) rmSync(this.#folder(link), { recursive: true, force: true });
    rmSync(this.#root.path('var/packages/Dozo'), { recursive: true, force: true });
    const isNew = (Object.keys(FOLDERS) as (keyof typeof FOLDERS)[]).filter((link) => !existsSync(this.#folder(link)));
    for (const link of isNew) mkdirSync(this.#folder(link), { recursive: true });
    rmSync(this.#folder('target'), { recursive: true });
    renameSync(this.#root.path(`${this.#extracted}/package`), this.#folder('target'));
    this.#root.unpack(
      [...spk.members.values()].filter(({ name }) => /^(INFO|scripts|conf)/.test(name)),
      'var/packages/Dozo',
    );
    for (const [link, name] of Object.entries(FOLDERS)) {
      symlinkSync(`/${this.#volume}/${name}/Dozo`, this.#root.path(`var/packages/Dozo/${link}`));
    }
    for (const link of isNew) execFileSync('chown', ['-hR', `${this.#user}:${this.#user}`, this.#folder(link)]);
    this.#shareFolder();
    return Promise.resolve();
  }

  /** The worker data-share: the folder is made where it is missing on every volume, and its user let in. */
  #shareFolder(): void {
    const volumes = readdirSync(this.#root.folder).filter((name) => /^volume\d+$/.test(name));
    const holder = volumes.find((volume) => existsSync(this.#root.path(`${volume}/Dozo`))) ?? this.#volume;
    if (!existsSync(this.#root.path(`${holder}/Dozo`))) {
      this.#root.makeFolder(`${holder}/Dozo`);
      execFileSync('chown', [`${this.#user}:${this.#user}`, this.#root.path(`${holder}/Dozo`)]);
    }
    this.#root.makeFolder('var/packages/Dozo/shares');
    symlinkSync(`/${holder}/Dozo`, this.#root.path('var/packages/Dozo/shares/Dozo'));
  }

  /** Where the user has moved or renamed the shared folder to, DSM sees to the link only. */
  moveShare(to: string): void {
    const link = this.#root.path('var/packages/Dozo/shares/Dozo');
    const volumes = readdirSync(this.#root.folder).filter((name) => /^volume\d+$/.test(name));
    const holder = volumes.find((volume) => existsSync(this.#root.path(`${volume}/Dozo`)));
    if (holder === undefined) throw new Error('there is no shared folder');
    renameSync(this.#root.path(`${holder}/Dozo`), this.#root.path(to));
    rmSync(link);
    symlinkSync(`/${to}`, link);
  }

  #environment(status: string): Record<string, string> {
    return {
      SYNOPKG_PKGNAME: 'Dozo',
      SYNOPKG_PKG_STATUS: status,
      SYNOPKG_DSM_LANGUAGE: this.#language,
      SYNOPKG_DSM_VERSION_MAJOR: this.#version[0],
      SYNOPKG_DSM_VERSION_MINOR: this.#version[1],
      SYNOPKG_TEMP_LOGFILE: '/tmp/dialog',
      SYNOPKG_PKGDEST_VOL: `/${this.#volume}`,
      SYNOPKG_PKGDEST: `/${this.#volume}/@appstore/Dozo`,
      SYNOPKG_PKGVAR: `/${this.#volume}/@appdata/Dozo`,
      SYNOPKG_PKGTMP: `/${this.#volume}/@apptemp/Dozo`,
      // The lab host is behind a cable that leads one way.
      DOZO_ISCSI: 'off',
      ...this.#more,
    };
  }

  async #chain(
    status: string,
    answers: Record<string, string>,
    steps: ([name: string, script: string] | (() => Promise<void>))[],
  ): Promise<ChainResult> {
    rmSync(this.#root.path('tmp/dialog'), { force: true });
    let output = '';
    let failedAt: string | null = null;
    for (const step of steps) {
      if (typeof step === 'function') {
        await step();
        continue;
      }
      const [name, script] = step;
      const known = Object.entries(this.#environment(status)).filter(
        // Before the package is in place, only its volume is known.
        ([key]) => name !== 'preinst' || !/_(PKGDEST|PKGVAR|PKGTMP)$/.test(key),
      );
      const said = await this.#session.run(`sh ${script}; echo ended=$?`, { ...Object.fromEntries(known), ...answers });
      output += said;
      if (readValues(said)['ended'] !== '0' && name !== 'postuninst') {
        failedAt = name;
        break;
      }
    }
    const dialog = this.#root.path('tmp/dialog');
    return { failedAt, output, dialog: existsSync(dialog) ? readFileSync(dialog, 'utf8') : '' };
  }
}

const startSteps: [string, string][] = [
  ['prestart', `${SCRIPTS}/start-stop-status prestart`],
  ['start', `${SCRIPTS}/start-stop-status start`],
];
const stopSteps: [string, string][] = [
  ['prestop', `${SCRIPTS}/start-stop-status prestop`],
  ['stop', `${SCRIPTS}/start-stop-status stop`],
];
