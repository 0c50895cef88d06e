import * as z from 'zod';

/**
 * What a function of the API demands of whoever calls it. Every function names one.
 *
 * - `whoami`: nothing but being logged in
 * - `account`: to look after one's own account: password, second factor, sessions, tokens
 * - `monitor`: to look at the state of the server
 * - `view`: to look at everything
 * - `browse`: to look at what one may restore: jobs, machines, versions and hosts, as far as one reaches
 * - `restore`: to bring machines and disks back, as far as one reaches
 * - `operate`: to start and cancel runs
 * - `configure`: to change what is backed up, where to and when
 * - `administer`: accounts, their rights, and the audit log
 */
export const permissionSchema = z.enum([
  'whoami',
  'account',
  'monitor',
  'view',
  'browse',
  'restore',
  'operate',
  'configure',
  'administer',
]);
export type Permission = z.infer<typeof permissionSchema>;

/** `restore`: restores what was delegated to the account, job by job, and sees nothing else. */
export const roleSchema = z.enum(['administrator', 'operator', 'restore', 'viewer']);
export type Role = z.infer<typeof roleSchema>;

/** Limits of a token, on top of the role of its account. `full`: none. */
export const tokenScopeSchema = z.enum(['full', 'operate', 'restore', 'read', 'monitor']);
export type TokenScope = z.infer<typeof tokenScopeSchema>;
