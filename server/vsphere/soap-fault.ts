import { AppError } from '../errors/index.ts';
import type { SoapFault } from './soap-reply.ts';

/**
 * A fault in our words: HOST_LOGIN_REFUSED, HOST_LOCKDOWN, HOST_NOT_ADMINISTRATOR,
 * HOST_LICENSE_REFUSES, else SOAP_FAULT with `details.fault`; with it, where the fault has them,
 * `details.key` (of the first message), `details.file` and `details.property`.
 */
export function explainFault(host: string, operation: string, fault: SoapFault): AppError {
  const details = { host, operation, fault: fault.type, ...particulars(fault) };
  switch (fault.type) {
    case 'InvalidLogin':
      return new AppError('HOST_LOGIN_REFUSED', `${host} refused the login.`, {
        hint: 'Correct the user or password. Dozo does not try again by itself, since repeated wrong passwords lock the account.',
        details,
      });
    case 'NoPermission':
      if (operation === 'Login') {
        return new AppError('HOST_LOCKDOWN', `${host} does not let this user log in directly.`, {
          hint: 'Turn lockdown mode off, or add the user to its exceptions, or give the user the role Administrator.',
          details,
        });
      }
      return new AppError('HOST_NOT_ADMINISTRATOR', `The user may not do ${operation} on ${host}.`, {
        hint: 'Give the user the role Administrator on the host (Host Client: Manage, Permissions).',
        details,
      });
    case 'RestrictedVersion':
      return new AppError(
        'HOST_LICENSE_REFUSES',
        `The licence of ${host} does not allow ${operation} through the API.`,
        {
          hint: 'Nothing to do: on such hosts Dozo uses SSH instead.',
          details,
        },
      );
    default:
      return new AppError('SOAP_FAULT', `${host} answered ${operation} with ${fault.type}: ${fault.text}`, {
        hint: 'The message is that of the host; its log is /var/log/hostd.log.',
        details,
      });
  }
}

function particulars(fault: SoapFault): Record<string, string> {
  const found: Record<string, string> = {};
  const { faultMessage, file, invalidProperty } = fault.properties;
  const [message] = Array.isArray(faultMessage) ? (faultMessage as unknown[]) : [];
  if (isObject(message) && typeof message['key'] === 'string') found['key'] = message['key'];
  if (typeof file === 'string') found['file'] = file;
  if (typeof invalidProperty === 'string') found['property'] = invalidProperty;
  return found;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
