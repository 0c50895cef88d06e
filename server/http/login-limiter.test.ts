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

function fails(
  limiter: LoginLimiter,
  address: string,
  account: string,
  options?: Parameters<LoginLimiter['begin']>[2],
): boolean {
  try {
    limiter.begin(address, account, options);
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

  it('holds against ten thousand failures from a hundred addresses, and lets the owner in from elsewhere', () => {
    const clock = new HandClock();
    const limiter = new LoginLimiter(clock);
    limiter.begin('home', 'admin').succeeded();
    let tried = 0;
    for (let attempt = 0; attempt < 10_000; attempt += 1) {
      if (fails(limiter, `10.0.0.${attempt % 100}`, 'admin')) tried += 1;
    }
    assert.ok(tried <= 140, `${tried} of ten thousand`);
    limiter.begin('home', 'admin').succeeded();
    limiter.begin('elsewhere', 'admin').succeeded();
    limiter.begin('elsewhere', 'admin').succeeded();
  });

  it('gives each of many addresses one attempt an hour at an account under attack', () => {
    const clock = new HandClock();
    const limiter = new LoginLimiter(clock);
    for (let attempt = 0; attempt < 1_000; attempt += 1) fails(limiter, `10.1.${attempt}`, 'admin');
    let tried = 0;
    for (let minute = 0; minute < 60; minute += 1) {
      for (let attempt = 0; attempt < 40; attempt += 1) fails(limiter, `10.2.${minute}.${attempt}`, 'admin');
      if (fails(limiter, 'patient', 'admin')) tried += 1;
      clock.ms += 60_000;
    }
    assert.equal(tried, 1);
  });

  it('gives nothing for new addresses where anybody can claim any', () => {
    const clock = new HandClock();
    const limiter = new LoginLimiter(clock);
    limiter.begin('home', 'admin').succeeded();
    let tried = 0;
    for (let second = 0; second < 3600; second += 1) {
      clock.ms = second * 1000;
      if (fails(limiter, `10.3.${second}`, 'admin', { isAddressSure: false })) tried += 1;
    }
    assert.ok(tried <= 400, `${tried} in an hour`);
    limiter.begin('home', 'admin', { isAddressSure: false }).succeeded();
  });

  it('takes a network of IPv6 for one address, however it is written', () => {
    const limiter = new LoginLimiter(new HandClock());
    let tried = 0;
    for (let attempt = 0; attempt < 100; attempt += 1) {
      if (fails(limiter, `2001:db8:0:7::${attempt.toString(16)}`, `account ${attempt}`)) tried += 1;
      if (fails(limiter, `2001:db8::7:${attempt.toString(16)}:0:0:1`, `account ${attempt}`)) tried += 1;
    }
    assert.equal(tried, 8);
    limiter.begin('2001:db8:0:8::1', 'admin').succeeded();
    limiter.begin('::ffff:192.0.2.1', 'admin').succeeded();
  });

  it('lets guess codes at a slow pace, and its owner in beside it', () => {
    const clock = new HandClock();
    const limiter = new LoginLimiter(clock);
    limiter.begin('home', 'admin').succeeded();
    let tried = 0;
    for (let second = 0; second < 86_400; second += 1) {
      clock.ms = second * 1000;
      try {
        limiter.beginCode(`10.0.0.${second % 250}`, 'admin');
        tried += 1;
      } catch {
        // Refused.
      }
    }
    assert.ok(tried <= 1_450, `${tried} in a day`);
    limiter.beginCode('home', 'admin').succeeded();
  });

  it('does not count what was neither right nor wrong', () => {
    const limiter = new LoginLimiter(new HandClock());
    for (let attempt = 0; attempt < 100; attempt += 1) limiter.begin('home', 'admin').undo();
    limiter.begin('home', 'admin').succeeded();
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
