/**
 * Every part of the packages that is not made from this repository, with the hash of what was looked at. A
 * part that changes at its source stops the build until somebody has looked again, or asked for `--newer-patches`.
 */

/** Before Debian 13.8 replaced some of it, as Debian's archive of former states writes a time. */
export const PINNED_AT = '20261120T000000Z';

/** Names of one architecture in the worlds that a package touches. */
export interface Architecture {
  /** As `uname -m` says it. */
  machine: 'x86_64' | 'aarch64';
  node: 'x64' | 'arm64';
  debian: 'amd64' | 'arm64';
  /** Of Synology's families. */
  spk: 'x86_64' | 'armv8';
  /** Of QNAP's families. */
  qpkg: 'x86_64' | 'arm_64';
  /** File name of the dynamic loader. */
  loader: string;
  /** Prefix of the cross tools on a machine of the other architecture. */
  crossPrefix: string;
}

export const ARCHITECTURES: readonly Architecture[] = [
  {
    machine: 'x86_64',
    node: 'x64',
    debian: 'amd64',
    spk: 'x86_64',
    qpkg: 'x86_64',
    loader: 'ld-linux-x86-64.so.2',
    crossPrefix: 'x86_64-linux-gnu-',
  },
  {
    machine: 'aarch64',
    node: 'arm64',
    debian: 'arm64',
    spk: 'armv8',
    qpkg: 'arm_64',
    loader: 'ld-linux-aarch64.so.1',
    crossPrefix: 'aarch64-linux-gnu-',
  },
];

export const NODE = {
  version: '24.21.0',
  /** SHA-512 of the npm packages that carry the program. */
  integrity: {
    x64: 'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
    arm64: 'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
  },
} as const;

/** Valkey, the Redis under the BSD licence, as Debian patches it. */
export const VALKEY = {
  version: '8.1.1',
  /** Folder in Debian's archive. */
  pool: 'v/valkey',
  debianVersion: '8.1.1+dfsg1-3+deb13u2',
  source: {
    name: 'valkey_8.1.1+dfsg1.orig.tar.xz',
    sha256: 'd9bbd82eecb82f359e649a0007ad3dc1b47cc15afa626348ca86b73c4ae2c7ee',
  },
  patches: {
    name: 'valkey_8.1.1+dfsg1-3+deb13u2.debian.tar.xz',
    sha256: 'b5a16407d42c74b93cce893e9480c6c3a8d1f85e247cc2e57627d7ab7746f259',
  },
} as const;

export interface DebianPackage {
  name: string;
  /** Folder in Debian's archive: that of its source. */
  pool: string;
  version: string;
  licence: string;
  sha256: { amd64: string; arm64: string };
  /** Files taken from it, by base name. */
  files: readonly string[];
}

/** The private C and C++ libraries: those that the addons are compiled against on Debian 12. */
export const LIBRARIES: readonly DebianPackage[] = [
  {
    name: 'libc6',
    pool: 'g/glibc',
    version: '2.36-9+deb12u14',
    licence: 'LGPL-2.1-or-later',
    sha256: {
      amd64: 'ba4f88f73dbc3ae9055f3c20f4523bfdbaf1ad13ff95e258924f77d20b4fbedf',
      arm64: '01f4330719fd4f65580e16ea5a0527f372fca750e8f588d26deaf09f2d3b1cf4',
    },
    files: [
      'libanl.so.1',
      'libc.so.6',
      'libdl.so.2',
      'libm.so.6',
      'libnss_dns.so.2',
      'libnss_files.so.2',
      'libpthread.so.0',
      'libresolv.so.2',
      'librt.so.1',
      'libutil.so.1',
    ],
  },
  {
    name: 'libgcc-s1',
    pool: 'g/gcc-12',
    version: '12.2.0-14+deb12u1',
    licence: 'GPL-3.0-or-later WITH GCC-exception-3.1',
    sha256: {
      amd64: '3016e62cb4b7cd8038822870601f5ed131befe942774d0f745622cc77d8a88f7',
      arm64: '576926b283613db80168ddf76380a3bd877602778cf0d226caa7bfbfa71eacf3',
    },
    files: ['libgcc_s.so.1'],
  },
  {
    name: 'libstdc++6',
    pool: 'g/gcc-12',
    version: '12.2.0-14+deb12u1',
    licence: 'GPL-3.0-or-later WITH GCC-exception-3.1',
    sha256: {
      amd64: '5cd3171216d4ab0fc911cfe9c35509bf2dd8f47761c43b7f6a4296701551a24d',
      arm64: '26e138c677a985775331373828a6c286c551ff397cb735d00e2383cb273d1cb2',
    },
    files: ['libstdc++.so.6'],
  },
];
