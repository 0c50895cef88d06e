import type { Client } from 'ssh2';

/**
 * ssh2's compiled ciphers abort the process when they are collected while no script runs, as Node does when a socket
 * takes memory to read into: their base class asks for the environment of the script and finds none (`Assertion
 * failed: (env) != nullptr` in `RemoveEnvironmentCleanupHook`; ssh2 1.17, Node 24). So they are never collected. ssh2
 * frees what they hold when a connection ends; some hundred bytes of each connection and exchange of keys stay.
 */
const kept: unknown[] = [];

/** To be called each time that keys were exchanged. */
export function keepCiphers(client: Client): void {
  const { _protocol: protocol } = client as unknown as {
    _protocol?: { _cipher?: { _instance?: unknown }; _decipher?: { _instance?: unknown } };
  };
  for (const end of [protocol?._cipher, protocol?._decipher]) {
    if (end?._instance !== undefined) kept.push(end._instance);
  }
}
