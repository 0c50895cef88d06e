import { createHash } from 'node:crypto';
import ssh2, { type AnyAuthMethod, type AuthenticationType } from 'ssh2';
// @ts-expect-error the package describes only its main module
import ssh2Crypto from 'ssh2/lib/protocol/crypto.js';
import { AppError, cancelled, toAppError } from '../errors/index.ts';
import { Connection } from './connection.ts';
import { keepCiphers } from './native-ciphers.ts';
import { PacketSocket } from './packet-socket.ts';
import type { SshConnection, SshOptions } from './ssh.ts';

const CONNECT_TIMEOUT_MS = 20_000;
const STALL_TIMEOUT_MS = 60_000;

/**
 * Order of preference. GCM with 128 bits is the fastest with hardware AES; hosts set up by the book
 * offer GCM and CTR only. SHA-1 key exchange stands last, for ESXi 6.x.
 */
const ALGORITHMS = {
  cipher: [
    'aes128-gcm@openssh.com' as const,
    'aes256-gcm@openssh.com' as const,
    'aes128-ctr' as const,
    'aes192-ctr' as const,
    'aes256-ctr' as const,
  ],
  kex: { append: ['diffie-hellman-group-exchange-sha1', 'diffie-hellman-group14-sha1'], prepend: [], remove: [] },
  compress: ['none' as const],
};

/** True when ssh2 uses its compiled ciphers; without them it moves less than half as much a second. */
export function isNativeCrypto(): boolean {
  return (ssh2Crypto as { bindingAvailable: boolean }).bindingAvailable;
}

/**
 * Connects and logs in, once: a refused login is never repeated. The host key is compared before
 * anything secret is sent. `options.signal` ends the attempt; the connection it gave lives on.
 *
 * @throws HOST_NAME_UNKNOWN, HOST_UNREACHABLE, HOST_SSH_OFF, HOST_SSH_DROPPED, HOST_STALLED,
 *   HOST_NOT_ESXI (something else answers on the port), HOST_KEY_CHANGED, HOST_LOGIN_REFUSED,
 *   INPUT_INVALID (a private key that cannot be read), CANCELLED
 */
export async function connectSsh(options: SshOptions): Promise<SshConnection> {
  if (options.signal?.aborted === true) throw cancelled(options.signal.reason);
  assertReadableKey(options.privateKey);
  const connectTimeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
  const stallTimeoutMs = options.stallTimeoutMs ?? STALL_TIMEOUT_MS;
  const attempt: Attempt = {
    stage: 'tcp',
    hostKey: '',
    tried: [],
    hasSentPassword: false,
    offered: null,
    failure: undefined,
  };
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const client = new ssh2.Client();
  const fail = (error: AppError): void => {
    attempt.failure ??= error;
    reject(attempt.failure);
  };

  client.on('error', (error: Error & { code?: unknown; level?: string }) => fail(explain(options, attempt, error)));
  client.on('close', () => fail(explain(options, attempt)));
  client.on('ready', resolve);
  client.on('connect', () => (attempt.stage = 'handshake'));
  client.on('handshake', () => (attempt.stage = 'login'));
  client.on('handshake', () => keepCiphers(client));

  const socket = new PacketSocket();
  client.on('handshake', ({ sc }) => socket.useCipher(sc.cipher));
  socket.setNoDelay(true).connect({ host: options.host, port: options.port });
  const timer = setTimeout(() => fail(silent(options, attempt, connectTimeoutMs)), connectTimeoutMs);
  const onAbort = (): void => fail(cancelled(options.signal?.reason));
  options.signal?.addEventListener('abort', onAbort, { once: true });
  try {
    client.connect({
      sock: socket,
      username: options.user,
      readyTimeout: 0,
      keepaliveInterval: Math.max(100, stallTimeoutMs / 5),
      keepaliveCountMax: Number.MAX_SAFE_INTEGER,
      algorithms: ALGORITHMS as never,
      hostVerifier: (key: Buffer) => isExpectedKey(options, attempt, key, fail),
      authHandler: ((
        methods: AuthenticationType[] | null,
        isPartial: boolean | null,
        next: (method: AnyAuthMethod | false) => void,
      ) => next(nextMethod(options, attempt, methods, fail))) as never,
    });
    await promise;
  } catch (error) {
    client.on('error', () => undefined);
    socket.destroy();
    throw toAppError(error);
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', onAbort);
    client.removeAllListeners('close').removeAllListeners('ready');
  }
  const limits = { channelsMax: options.channelsMax, channelOpenTimeoutMs: connectTimeoutMs, stallTimeoutMs };
  return new Connection({ host: options.host, hostKey: attempt.hostKey, client, socket, limits });
}

interface Attempt {
  stage: 'tcp' | 'handshake' | 'login';
  hostKey: string;
  /** Ways to log in that were begun, each at most once. */
  tried: ('key' | 'password')[];
  hasSentPassword: boolean;
  /** The methods that the host said it accepts. */
  offered: readonly string[] | null;
  failure: AppError | undefined;
}

function isExpectedKey(options: SshOptions, attempt: Attempt, key: Buffer, fail: (error: AppError) => void): boolean {
  attempt.hostKey = `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
  if (options.hostKey === null || options.hostKey.replace(/=+$/, '') === attempt.hostKey) return true;
  fail(
    new AppError('HOST_KEY_CHANGED', `${options.host} showed another SSH host key than the one known to Dozo.`, {
      hint: 'If the host was reinstalled, compare the new key on its console and accept it; otherwise someone may be in between.',
      details: { host: options.host, expected: options.hostKey, shown: attempt.hostKey },
    }),
  );
  return false;
}

/** The next way to log in. Never the same secret twice: a second wrong password may lock the account. */
function nextMethod(
  options: SshOptions,
  attempt: Attempt,
  methods: readonly string[] | null,
  fail: (error: AppError) => void,
): AnyAuthMethod | false {
  if (methods !== null) attempt.offered = methods;
  const { user: username, privateKey, password } = options;
  if (privateKey !== undefined && !attempt.tried.includes('key')) {
    attempt.tried.push('key');
    return { type: 'publickey', username, key: privateKey };
  }
  if (password !== undefined && !attempt.tried.includes('password')) {
    attempt.tried.push('password');
    return {
      type: 'keyboard-interactive',
      username,
      prompt: (_name, _instructions, _language, prompts, finish) => {
        // One hidden question is the password. A second round means that it was wrong or has expired.
        if (attempt.hasSentPassword || prompts.length !== 1 || prompts[0]?.echo === true) {
          fail(refused(options, attempt, `it asked for more than a password (${prompts[0]?.prompt.trim() ?? ''})`));
          return;
        }
        attempt.hasSentPassword = true;
        finish([password]);
      },
    };
  }
  return false;
}

/** An error of ssh2 or of the socket, or the silent end of the connection, in our words. */
function explain(options: SshOptions, attempt: Attempt, error?: Error & { code?: unknown; level?: string }): AppError {
  const { host, port } = options;
  const details = { host, port };
  if (attempt.stage === 'tcp') return explainSocket(options, error);
  if (attempt.stage === 'login') {
    if (error?.level === 'client-authentication') return refused(options, attempt);
    if (attempt.hasSentPassword) {
      if (options.isPasswordProven === true) return cutInLogin(options, error);
      // Some hosts hang up instead of answering a wrong password. Trying again could lock the account.
      return refused(options, attempt, 'it hung up after the password');
    }
  }
  if (
    error !== undefined &&
    /unsupported|no matching|bad (message|header)|not an ssh|invalid|version/i.test(error.message)
  ) {
    return new AppError(
      'HOST_NOT_ESXI',
      `Port ${port} of ${host} does not answer as an SSH server should: ${error.message}.`,
      {
        hint: 'Check the port; the SSH service of an ESXi host listens on 22 unless it was moved.',
        details,
        cause: error,
      },
    );
  }
  return new AppError('HOST_SSH_DROPPED', `${host} closed the SSH connection before the login was done.`, {
    hint: 'The account may be locked after wrong passwords (wait 15 minutes), the host may be busy or restarting, or a firewall allows only some addresses.',
    details,
    cause: error,
  });
}

function cutInLogin({ host, port, user }: SshOptions, cause?: Error): AppError {
  return new AppError('HOST_SSH_DROPPED', `${host} ended the SSH connection without an answer to the right password.`, {
    hint: `The host or its SSH service is probably restarting: try again in a few minutes. If it stays so, give ${user} the role Administrator and shell access, or use root.`,
    details: { host, port, user },
    cause,
  });
}

function explainSocket(options: SshOptions, error?: Error & { code?: unknown }): AppError {
  const { host, port } = options;
  const details = { host, port };
  switch (error?.code) {
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'EAI_FAIL':
    case 'EAI_NONAME':
    case 'ENODATA':
      return new AppError('HOST_NAME_UNKNOWN', `The name ${host} has no address.`, {
        hint: 'Check the spelling and the DNS server of this NAS, or give the IP address.',
        details,
        cause: error,
      });
    case 'ECONNREFUSED':
      return new AppError('HOST_SSH_OFF', `${host} refuses connections on port ${port}: its SSH service is off.`, {
        hint: 'Start SSH on the host (Host Client: Manage, Services, TSM-SSH) and set its policy to start and stop with the host.',
        details,
        cause: error,
      });
    case 'ECONNRESET':
    case 'EPIPE':
      return new AppError('HOST_SSH_DROPPED', `${host} closed the SSH connection at once.`, {
        hint: 'The account may be locked after wrong passwords (wait 15 minutes), or a firewall allows only some addresses.',
        details,
        cause: error,
      });
    default:
      return new AppError('HOST_UNREACHABLE', `${host} cannot be reached on port ${port}.`, {
        hint: 'Check that the host is on, the address is right and the network between is up.',
        details,
        cause: error,
      });
  }
}

function silent(options: SshOptions, attempt: Attempt, connectTimeoutMs: number): AppError {
  if (attempt.stage === 'tcp') return explainSocket(options);
  const { host, port } = options;
  return new AppError(
    'HOST_STALLED',
    `${host} accepted the connection but did not finish the login within ${connectTimeoutMs / 1000} s.`,
    {
      hint: 'The host may be overloaded, or its SSH service hangs; restart the service TSM-SSH.',
      details: { host, port },
    },
  );
}

function refused(options: SshOptions, attempt: Attempt, reason?: string): AppError {
  const { host, user } = options;
  const offered = attempt.offered?.join(', ') ?? null;
  const isOffered =
    attempt.offered === null ||
    attempt.offered.includes(options.password === undefined ? 'publickey' : 'keyboard-interactive');
  const because = reason === undefined ? '' : `: ${reason}`;
  return new AppError('HOST_LOGIN_REFUSED', `${host} refused the login of ${user}${because}.`, {
    hint: isOffered
      ? 'Correct the user or password. Dozo does not try again by itself, since repeated wrong passwords lock the account.'
      : `The host accepts only: ${offered ?? ''}. Allow ChallengeResponseAuthentication (or public keys) in its sshd_config.`,
    details: { host, user, offered },
  });
}

function assertReadableKey(privateKey: string | undefined): void {
  if (privateKey === undefined) return;
  const parsed = ssh2.utils.parseKey(privateKey);
  const isPrivate = !(parsed instanceof Error) && [parsed].flat().every((key) => key.isPrivateKey());
  if (isPrivate) return;
  throw new AppError('INPUT_INVALID', 'The private key cannot be read.', {
    hint: 'Give an unencrypted private key in OpenSSH or PEM form.',
  });
}
