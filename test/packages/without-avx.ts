import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { readSpk } from './archives.ts';
import type { BuiltPackages } from './built-packages.ts';
import { compileNative, markWithoutAvx, NasRoot, readValues, type NasSession } from './nas-root.ts';
import { PackageCenter } from './package-center.ts';

/**
 * The package for x86-64 on the oldest of its processors: nothing of it may need AVX. Up to the first answers only:
 * what emulates them ends with a fault of its own once the server starts programs of the NAS.
 */
export function testWithoutAvx(built: () => BuiltPackages): void {
  describe('a processor without AVX, emulated', { timeout: 1_200_000 }, () => {
    let root: NasRoot;
    let session: NasSession | null = null;
    before(() => {
      root = new NasRoot('busybox', { hasMarked: true });
      root.makeFolder('volume1');
    });
    after(async () => {
      await session?.cut();
      root.remove();
    });

    it('ends what has no way around it', async () => {
      const program = readFileSync(compileNative('uses-avx', root.folder));
      root.write('plain', program, 0o755);
      root.write('marked', markWithoutAvx(program), 0o755);
      const output = await root.run('/plain; echo plain=$?; /marked; echo marked=$?');
      // SIGILL is 4.
      assert.deepEqual(readValues(output), { plain: '0', marked: String(128 + 4) }, output);
    });

    it('hashes, encrypts, compresses, keeps a database, serves TLS and answers', async () => {
      const spk = readSpk(built().spk);
      const programs = spk.payload.filter(({ name }) => ['bin/node', 'bin/valkey-server'].includes(name));
      assert.equal(programs.length, 2);
      for (const program of programs) program.data = markWithoutAvx(program.data);
      session = root.open(0);
      const center = new PackageCenter(root, session, { user: 0 });
      const installed = await center.install(spk);
      assert.equal(installed.failedAt, null, `${installed.dialog}\n${installed.output}`);
      root.write('proof.mjs', readFileSync('test/packages/processor-proof.mjs'));
      const node = '/var/packages/Dozo/target/bin/node';
      const output = await session.run(
        [
          `${node} /proof.mjs /var/packages/Dozo/target/server`,
          'echo health=$(wget -qO- http://127.0.0.1:15510/api/v1/health)',
          'echo window=$(wget -qO- http://127.0.0.1:15510/index.html | grep -c "<script")',
          `${node} /var/packages/Dozo/target/bin/probe.mjs health 5510; echo tls=$?`,
          'for part in server-main worker-main valkey-server; do grep -l "^/bin/qemu.*$part" /proc/[0-9]*/cmdline > /dev/null && echo $part; done',
        ].join('\n'),
      );
      const values = readValues(output);
      assert.deepEqual([values['proof'], values['window'], values['tls']], ['all', '1', '0'], output);
      assert.match(values['health'] ?? '', /"ok"/);
      assert.match(output, /^server-main\nworker-main\nvalkey-server$/m);
    });
  });
}
