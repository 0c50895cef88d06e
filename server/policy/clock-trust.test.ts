import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { clockDoubt, followClock, type ClockTrust } from './clock-trust.ts';

const DAY_MS = 86_400_000;
const START_MS = Date.UTC(2026, 10, 1);

/** A system whose clock is set, and that is switched off and on. */
class System {
  #wallMs = START_MS;
  #uptimeMs = 60_000;
  #boot = 1;
  #trust: ClockTrust | null = null;

  constructor() {
    this.look();
  }

  look(): ReturnType<typeof clockDoubt> {
    const look = { bootId: `boot ${this.#boot}`, uptimeMs: this.#uptimeMs, wallMs: this.#wallMs };
    this.#trust = followClock(this.#trust, look);
    return clockDoubt(this.#trust);
  }

  /** Runs for so long and is looked at every hour. */
  run(days: number): ReturnType<typeof clockDoubt> {
    for (let hour = 0; hour < days * 24; hour += 1) {
      this.#wallMs += DAY_MS / 24;
      this.#uptimeMs += DAY_MS / 24;
      this.look();
    }
    return this.look();
  }

  set(days: number): ReturnType<typeof clockDoubt> {
    this.#wallMs += days * DAY_MS;
    return this.look();
  }

  off(days: number, setByDays = 0): ReturnType<typeof clockDoubt> {
    this.#wallMs += (days + setByDays) * DAY_MS;
    this.#boot += 1;
    this.#uptimeMs = 30_000;
    return this.look();
  }
}

describe('trust in the clock', () => {
  it('is there while the clock runs, drifts, or is set by hours', () => {
    const system = new System();
    assert.equal(system.run(5), null);
    assert.equal(system.set(0.5), null);
    assert.equal(system.set(-0.5), null);
    assert.equal(system.run(40), null);
  });

  it('ends when it is set forward, by as much as it was, and comes back after three days that it runs on', () => {
    const system = new System();
    assert.equal(system.set(400)?.aheadMs, 400 * DAY_MS);
    const later = system.run(2);
    assert.equal(later?.aheadMs, 400 * DAY_MS);
    assert.equal(later.settlesInMs, DAY_MS);
    assert.equal(system.run(1.1), null);
    assert.equal(system.run(1), null);
  });

  it('comes back at once when the clock is set right', () => {
    const system = new System();
    assert.notEqual(system.set(3650), null);
    assert.notEqual(system.run(1), null);
    assert.equal(system.set(-3650), null);
    assert.equal(system.run(5), null);
  });

  it('begins its three days anew each time that the clock is set on', () => {
    const system = new System();
    system.set(20);
    system.run(2.5);
    assert.equal(system.set(20)?.aheadMs, 40 * DAY_MS);
    assert.notEqual(system.run(2.5), null);
    assert.equal(system.run(1), null);
  });

  it('is not lost by a season switched off, nor for good by years', () => {
    const system = new System();
    assert.equal(system.off(92), null);
    assert.notEqual(system.off(1000), null);
    // Switched off every night: the days count in which it runs.
    for (let day = 0; day < 12 && system.look() !== null; day += 1) {
      system.run(1 / 3);
      system.off(2 / 3);
    }
    assert.equal(system.look(), null);
  });

  it('survives a restart: what was set while it ran is in doubt after it as well', () => {
    const system = new System();
    system.set(40);
    system.run(1);
    assert.equal(system.off(5)?.aheadMs, 40 * DAY_MS);
    assert.notEqual(system.run(1.5), null);
    assert.equal(system.run(1), null);
  });

  it('is there when a system without a battery gets its time from the network after each start', () => {
    const system = new System();
    system.run(3);
    for (let day = 0; day < 5; day += 1) {
      system.run(1);
      // It comes up in 1970.
      assert.equal(system.off(0.1, -20_000), null, 'what is behind ends nothing early');
      assert.equal(system.set(20_000), null);
    }
  });

  it('comes to believe a clock that ran ahead for long and is right now', () => {
    const system = new System();
    system.set(400);
    system.run(4);
    assert.equal(system.set(-400), null);
    assert.equal(system.run(4), null);
    assert.equal(system.set(300)?.aheadMs, 300 * DAY_MS);
  });
});
