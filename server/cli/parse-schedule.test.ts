import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { scheduleRuleSchema } from '../contract/api/schedule.schema.ts';
import { collectWindow, parseRule } from './parse-schedule.ts';

describe('rules in words', () => {
  for (const [text, rule] of [
    ['daily 22:00', { kind: 'daily', time: '22:00' }],
    ['every 4h', { kind: 'interval', everyMinutes: 240 }],
    ['every 15 m', { kind: 'interval', everyMinutes: 15 }],
    ['weekly fri-mon 06:30', { kind: 'weekly', days: ['friday', 'saturday', 'sunday', 'monday'], time: '06:30' }],
    ['weekly mon, thursday 22:00', { kind: 'weekly', days: ['monday', 'thursday'], time: '22:00' }],
    ['monthly 31 22:00', { kind: 'monthly', on: { kind: 'day', day: 31 }, time: '22:00' }],
    ['monthly last 22:00', { kind: 'monthly', on: { kind: 'last-day' }, time: '22:00' }],
    ['monthly last fri 22:00', { kind: 'monthly', on: { kind: 'weekday', nth: 5, weekday: 'friday' }, time: '22:00' }],
    ['once 2027-01-31 22:30', { kind: 'once', at: '2027-01-31T22:30' }],
    ['cron 30 22 * * 1-5', { kind: 'cron', expression: '30 22 * * 1-5' }],
  ] as const) {
    it(`reads "${text}"`, () => {
      assert.deepEqual(scheduleRuleSchema.parse(parseRule(text)), rule);
    });
  }

  for (const text of [
    '',
    'hourly',
    'daily',
    'daily 25:00',
    'daily mon 22:00',
    'every day',
    'weekly 22:00',
    'monthly 22:00',
  ]) {
    it(`refuses "${text}"`, () => {
      assert.throws(() => parseRule(text), { code: 'commander.invalidArgument' });
    });
  }

  it('adds windows up', () => {
    const hours = collectWindow('sat,sun 0-24', collectWindow('mon-fri 20:30-24', null));

    assert.equal(hours[0], `${'0'.repeat(41)}${'1'.repeat(7)}`);
    assert.equal(hours[4], hours[0]);
    assert.equal(hours[6], '1'.repeat(48));
    assert.throws(() => collectWindow('mon 8:15-9', null), { code: 'commander.invalidArgument' });
    assert.throws(() => collectWindow('mon 24-24', null), { code: 'commander.invalidArgument' });
    assert.throws(() => collectWindow('mon 22-6', null), { code: 'commander.invalidArgument' });
  });
});
