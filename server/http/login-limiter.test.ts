import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAppError } from '../errors/index.ts';
import type { Clock } from '../runtime/index.ts';
import { LoginLimiter } from './login-limiter.ts';

class HandClock implements Clock {
  ms = 0;
  nowMs(): number {
    return this.ms;
  }
  monotonicMs(): number {
    return this.ms;
  }
  async sleep(): Promise<void> {
    throw new Error('nobody sleeps here');
  }
}

function fails(limiter: LoginLimiter, address: string, account: string): boolean {
  try {
    limiter.begin(address, account);
    return true;
  } catch (error) {
    assert.ok(isAppError(error) && error.code === 'LOGIN_RATE_LIMITED');
    return false;
  }
}

describe('login limiter', () => {
  it('lets an address fail a few times, then slowly', () => {
    const clock = new HandClock();
    const limiter = new LoginLimiter(clock);
    let tried = 0;
    for (let second = 0; second < 3600; second += 1) {
      clock.ms = second * 1000;
      if (fails(limiter, 'bad', `account ${second}`)) tried += 1;
    }
    assert.ok(tried >= 100 && tried <= 130, `${tried} in an hour`);
  });

  it('holds against many addresses, and lets in who logged in from the same place before', () => {
    const clock = new HandClock();
    const limiter = new LoginLimiter(clock);
    limiter.begin('home', 'admin').succeeded();
    let tried = 0;
    for (let attempt = 0; attempt < 10_000; attempt += 1) if (fails(limiter, `10.0.${attempt}`, 'admin')) tried += 1;
    assert.ok(tried <= 40, `${tried} of ten thousand`);
    limiter.begin('home', 'admin').succeeded();
    assert.equal(fails(limiter, 'elsewhere', 'admin'), false);
    clock.ms += 3600_000;
    limiter.begin('elsewhere', 'admin').succeeded();
  });

  it('counts attempts that are made at the same time', () => {
    const limiter = new LoginLimiter(new HandClock());
    const started = Array.from({ length: 100 }, () => fails(limiter, 'bad', 'admin')).filter(Boolean);
    assert.equal(started.length, 8);
  });

  it('forgives an address that gets in', () => {
    const limiter = new LoginLimiter(new HandClock());
    for (let attempt = 0; attempt < 7; attempt += 1) fails(limiter, 'clumsy', 'admin');
    limiter.begin('clumsy', 'admin').succeeded();
    for (let attempt = 0; attempt < 7; attempt += 1) assert.equal(fails(limiter, 'clumsy', 'admin'), true);
  });
});
