import { X509Certificate } from 'node:crypto';
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { generate } from 'selfsigned';
import type { Clock } from '../runtime/index.ts';

export interface ServerCertificate {
  key: string;
  certificate: string;
  /** SHA-256 of the certificate, lower-case hex: what clients pin. */
  fingerprint: string;
  validUntilMs: number;
}

const VALID_DAYS = 3650;

/**
 * The certificate of port 5510: made at the first start, kept as long as it holds, so that clients
 * that pinned it find it again.
 */
export async function loadCertificate(folder: string, clock: Clock): Promise<ServerCertificate> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const keyPath = join(folder, 'key.pem');
  const certificatePath = join(folder, 'certificate.pem');
  const known = await readPair(keyPath, certificatePath);
  if (known !== null && Date.parse(new X509Certificate(known.certificate).validTo) > clock.nowMs()) {
    await chmod(keyPath, 0o600);
    return known;
  }
  const notBeforeDate = new Date(clock.nowMs() - 86_400_000);
  const made = await generate([{ name: 'commonName', value: 'Dozo' }], {
    keyType: 'ec',
    curve: 'P-256',
    algorithm: 'sha256',
    notBeforeDate,
    notAfterDate: new Date(notBeforeDate.getTime() + VALID_DAYS * 86_400_000),
    extensions: [
      { name: 'basicConstraints', cA: false, critical: true },
      { name: 'keyUsage', digitalSignature: true, critical: true },
      { name: 'extKeyUsage', serverAuth: true },
      {
        name: 'subjectAltName',
        altNames: listOwnNames().map((name) =>
          isIP(name) === 0 ? { type: 2 as const, value: name } : { type: 7 as const, ip: name },
        ),
      },
    ],
  });
  // The key first: a certificate without its key would be taken for a pair.
  await publish(keyPath, made.private);
  await publish(certificatePath, made.cert);
  return describe(made.private, made.cert);
}

/** A pair that the administrator provides. */
export async function readCertificate(keyPath: string, certificatePath: string): Promise<ServerCertificate> {
  return describe(await readFile(keyPath, 'utf8'), await readFile(certificatePath, 'utf8'));
}

function describe(key: string, certificate: string): ServerCertificate {
  const { fingerprint256, validTo } = new X509Certificate(certificate);
  const fingerprint = fingerprint256.replaceAll(':', '').toLowerCase();
  return { key, certificate, fingerprint, validUntilMs: Date.parse(validTo) };
}

async function readPair(keyPath: string, certificatePath: string): Promise<ServerCertificate | null> {
  try {
    return await readCertificate(keyPath, certificatePath);
  } catch {
    return null;
  }
}

async function publish(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

function listOwnNames(): string[] {
  const addresses = Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map((entry) => entry.address));
  const names = ['localhost', hostname(), ...addresses.filter((address) => !address.includes('%'))];
  return [...new Set(names.filter((name) => /^[A-Za-z0-9.:-]+$/.test(name)))];
}
