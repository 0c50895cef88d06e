import { permissionSchema, type Permission, type Role, type TokenScope } from '../contract/api/permission.schema.ts';

const ALL: readonly Permission[] = permissionSchema.options;

const OF_ROLE: Record<Role, readonly Permission[]> = {
  administrator: ALL,
  operator: ['whoami', 'account', 'monitor', 'view', 'browse', 'restore', 'operate'],
  restore: ['whoami', 'account', 'browse', 'restore'],
  viewer: ['whoami', 'account', 'monitor', 'view', 'browse'],
};

/** A token that is less than full never changes its own account: it could make itself more. */
const OF_SCOPE: Record<TokenScope, readonly Permission[]> = {
  full: ALL,
  operate: ['whoami', 'monitor', 'view', 'browse', 'operate'],
  restore: ['whoami', 'browse', 'restore'],
  read: ['whoami', 'monitor', 'view', 'browse'],
  monitor: ['whoami', 'monitor'],
};

/** What a session may do: what its account may and its token is not kept from. */
export function permissionsOf(role: Role, scope: TokenScope): Permission[] {
  return OF_ROLE[role].filter((permission) => OF_SCOPE[scope].includes(permission));
}
