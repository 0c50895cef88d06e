import type { Catalogue } from '../database/index.ts';
import type { Nas } from '../nas/index.ts';
import type { Sealer } from '../queue/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';
import { Accounts } from './accounts.ts';
import { AuditTrail } from './audit-trail.ts';
import { Authentication } from './authentication.ts';
import { NasSignIn } from './nas-sign-in.ts';
import { SecondFactor } from './second-factor.ts';

/** Who may log in, how, and what they did. */
export interface People {
  authentication: Authentication;
  accounts: Accounts;
  secondFactor: SecondFactor;
  audit: AuditTrail;
  nasSignIn: NasSignIn;
}

export function createPeople(parts: {
  catalogue: Catalogue;
  nas: Nas;
  sealer: Sealer;
  clock: Clock;
  logger: Logger;
}): People {
  const audit = new AuditTrail(parts);
  const secondFactor = new SecondFactor(parts);
  return {
    audit,
    secondFactor,
    accounts: new Accounts(parts),
    nasSignIn: new NasSignIn(parts.nas, parts.clock),
    authentication: new Authentication({ ...parts, audit, secondFactor }),
  };
}
