// Run by the runtime of an installed package: what it computes by instructions of its own choice. Prints `proof=all`.
// Usage: processor-proof.mjs FOLDER-OF-THE-SERVER
import assert from 'node:assert/strict';
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  generateKeyPairSync,
  scryptSync,
  sign,
  verify,
} from 'node:crypto';
import { EventEmitter } from 'node:events';
import { createRequire } from 'node:module';
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';

const [folder] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const data = Buffer.alloc(4 * 2 ** 20, 'what a machine has on its disk, ');

// By RFC 6234, RFC 7693 and RFC 7914.
const known = {
  sha256: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
  blake2b512:
    'ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923',
};
for (const [name, digest] of Object.entries(known)) {
  assert.equal(createHash(name).update('abc').digest('hex'), digest, name);
}
assert.equal(
  scryptSync('', '', 64, { N: 16, r: 1, p: 1 }).toString('hex').slice(0, 32),
  '77d6576238657b203b19ca42c18a0497',
);
for (const name of ['aes-256-gcm', 'chacha20-poly1305']) {
  const [key, nonce, options] = [Buffer.alloc(32, 1), Buffer.alloc(12, 2), { authTagLength: 16 }];
  const cipher = createCipheriv(name, key, nonce, options);
  const sealed = Buffer.concat([cipher.update(data), cipher.final()]);
  const decipher = createDecipheriv(name, key, nonce, options).setAuthTag(cipher.getAuthTag());
  assert.ok(Buffer.concat([decipher.update(sealed), decipher.final()]).equals(data), name);
}
for (const kind of ['ed25519', 'x25519']) {
  const { privateKey, publicKey } = generateKeyPairSync(kind);
  if (kind === 'ed25519') assert.ok(verify(null, data, publicKey, sign(null, data, privateKey)));
}
assert.ok(zstdDecompressSync(zstdCompressSync(data)).equals(data));
assert.ok(gunzipSync(gzipSync(data)).equals(data));
assert.equal(Buffer.from(data.toString('base64'), 'base64').compare(data), 0);

require(`${folder}/sshcrypto.node`);
const { Database } = require(`${folder}/node_sqlite3.node`);
// It says what happens to it, for which its JavaScript gives it a way.
Object.setPrototypeOf(Database.prototype, EventEmitter.prototype);
const answer = await new Promise((resolve, reject) => {
  const database = new Database(':memory:', 6, (error) => {
    if (error) reject(error);
    else
      database.exec('CREATE TABLE t (a); INSERT INTO t VALUES (42)', (failure) =>
        failure ? reject(failure) : resolve('made'),
      );
  });
});
assert.equal(answer, 'made');
console.log('proof=all');
