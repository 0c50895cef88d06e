import { readFileSync } from 'node:fs';
import type { NasRoot } from './nas-root.ts';
import { inspectQpkg } from './qpkg-reader.ts';

/**
 * What App Center does before anything of a package runs. Everything here is without a signature of QNAP's, as our
 * packages are.
 */
export class AppCenter {
  readonly #root: NasRoot;

  constructor(root: NasRoot) {
    this.#root = root;
  }

  /** "Allow installation of applications without a valid digital signature", as its administrator sets it. */
  allowUnsigned(isAllowed: boolean): void {
    const kept = this.#settings().replace(/\n\[QPKG Management\]\n[^[]*/, '\n');
    const section = isAllowed ? '[QPKG Management]\nIgnore_Cert = TRUE\n' : '';
    this.#root.write('etc/config/uLinux.conf', `${kept}${section}`);
  }

  /** Whether it runs the installer of a file, or starts a package that is installed already. */
  get takesUnsigned(): boolean {
    return /\n\[QPKG Management\]\n(?:[^[]*\n)?Ignore_Cert = TRUE\n/.test(this.#settings());
  }

  /** @returns shell: the installer of a file below /packages, or what App Center says in its place */
  install(name: string, run: string): string {
    inspectQpkg(readFileSync(this.#root.path(`packages/${name}`)));
    return this.takesUnsigned ? run : `echo ${name}_refused=signature`;
  }

  /** @returns shell: a verb of the service, or what App Center says in its place */
  serve(script: string, verb: 'start' | 'stop'): string {
    return verb === 'stop' || this.takesUnsigned ? `sh ${script} ${verb}; echo ${verb}=$?` : `echo ${verb}=refused`;
  }

  #settings(): string {
    return readFileSync(this.#root.path('etc/config/uLinux.conf'), 'utf8');
  }
}
