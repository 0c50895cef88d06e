// verify.mjs FOLDER: exit status 0 when every file below FOLDER is what SHA256SUMS in it says, and the
// addons load.
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder] = process.argv.slice(2);
const lines = readFileSync(join(folder, 'SHA256SUMS'), 'utf8').trim().split('\n');
for (const line of lines) {
  const [hash, name] = line.split('  ');
  if (
    createHash('sha256')
      .update(readFileSync(join(folder, name)))
      .digest('hex') !== hash
  ) {
    console.error(`${name} is damaged`);
    process.exit(1);
  }
}
for (const name of ['node_sqlite3.node', 'sshcrypto.node'])
  createRequire(import.meta.url)(join(folder, 'server', name));
