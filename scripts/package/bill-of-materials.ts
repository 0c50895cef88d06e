import { listComponents } from './components.ts';
import { NODE, type Architecture } from './pins.ts';
import type { Sources } from './sources.ts';

/** The software bill of materials of a package, CycloneDX 1.5, without anything that changes from build to build. */
export function writeSbom(architecture: Architecture, version: string, { valkey, libraries }: Sources): Buffer {
  const npm = listComponents().map((component) => ({
    type: 'library',
    name: component.name,
    version: component.version,
    purl: `pkg:npm/${component.name.replace('@', '%40')}@${component.version}`,
    ...(component.licence === null ? {} : { licenses: [{ expression: component.licence }] }),
    ...(component.integrity === null ? {} : { hashes: [toHash(component.integrity)] }),
  }));
  const programs = [
    {
      type: 'application',
      name: 'node',
      version: NODE.version,
      purl: `pkg:npm/node-linux-${architecture.node}@${NODE.version}`,
      licenses: [{ license: { name: 'Node.js and what it bundles: licences/node.txt' } }],
      hashes: [toHash(NODE.integrity[architecture.node])],
    },
    {
      type: 'application',
      name: 'valkey',
      version: valkey.debianVersion,
      purl: `pkg:deb/debian/valkey@${encodeURIComponent(valkey.debianVersion)}?arch=source`,
      licenses: [{ expression: 'BSD-3-Clause' }],
      hashes: [{ alg: 'SHA-256', content: valkey.sourceSha256 }],
    },
    ...libraries.map((library) => ({
      type: 'library',
      name: library.name,
      version: library.version,
      purl: `pkg:deb/debian/${encodeURIComponent(library.name)}@${encodeURIComponent(library.version)}?arch=${architecture.debian}`,
      licenses: [{ expression: library.licence }],
      hashes: [{ alg: 'SHA-256', content: library.sha256 }],
    })),
  ];
  const bill = {
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    metadata: {
      component: { type: 'application', name: 'dozo', version, licenses: [{ expression: 'Apache-2.0' }] },
    },
    components: [...programs, ...npm],
  };
  return Buffer.from(`${JSON.stringify(bill, null, 1)}\n`);
}

/** The lock file keeps `sha512-<base64>`. */
function toHash(integrity: string): { alg: string; content: string } {
  const [algorithm = '', base64 = ''] = integrity.split('-', 2);
  return {
    alg: algorithm.replace('sha', 'SHA-'),
    content: Buffer.from(base64, 'base64').toString('hex'),
  };
}
