import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertHardwareKnown } from './hardware.ts';

test('refuses hardware that no update of the host knows, and nothing that one of them may know', () => {
  const refuse = (hardware: string, host: string): void =>
    assert.throws(() => assertHardwareKnown('sql', hardware, host), { code: 'RESTORE_REGISTER_FAILED' });
  refuse('vmx-19', '6.7.0');
  refuse('vmx-20', '7.0.3');
  refuse('vmx-999', '6.0');
  for (const [hardware, host] of [
    ['vmx-15', '6.7.0'],
    ['vmx-19', '7.0.0'],
    ['vmx-99', '8.0.3'],
    ['vmx-99', '9.1.0'],
    ['', '6.7.0'],
    ['of the future', '6.7.0'],
    ['vmx-19', ''],
  ] as const) {
    assertHardwareKnown('sql', hardware, host);
  }
});
