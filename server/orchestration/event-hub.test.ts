import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ServerEvent } from '../contract/api/event.schema.ts';
import { EventHub, type NumberedEvent } from './event-hub.ts';

function changed(id: string): ServerEvent {
  return { type: 'changed', what: 'host', id };
}

function idsOf(events: readonly NumberedEvent[]): string[] {
  return events.map(({ event }) => (event.type === 'changed' ? (event.id ?? '') : event.type));
}

describe('event hub', () => {
  it('gives a reader that comes back exactly what it missed', () => {
    const hub = new EventHub();
    const seen: NumberedEvent[] = [];
    const first = hub.subscribe(null, (event) => seen.push(event));
    assert.deepEqual(first.missed, []);
    hub.emit(changed('a'));
    first.unsubscribe();
    hub.emit(changed('b'));
    hub.emit(changed('c'));

    const second = hub.subscribe(seen.at(-1)?.id ?? '', () => undefined);

    assert.deepEqual(idsOf(seen), ['a']);
    assert.deepEqual(idsOf(second.missed), ['b', 'c']);
    assert.deepEqual(hub.subscribe(second.missed.at(-1)?.id ?? '', () => undefined).missed, []);
  });

  it('tells a reader to load anew when it was away too long, or in another life of the server', () => {
    const hub = new EventHub();
    const seen: NumberedEvent[] = [];
    hub.subscribe(null, (event) => seen.push(event));
    hub.emit(changed('first'));
    for (let number = 0; number < 2_100; number += 1) hub.emit(changed(String(number)));

    assert.deepEqual(idsOf(hub.subscribe(seen[0]?.id ?? '', () => undefined).missed), ['reset']);
    assert.deepEqual(idsOf(hub.subscribe(seen[200]?.id ?? '', () => undefined).missed).length, 1900);
    for (const strange of ['', 'x', '1-1', '-', `${seen[0]?.id.split('-')[0]}-99999`, 'ffffffff-1']) {
      assert.deepEqual(idsOf(hub.subscribe(strange, () => undefined).missed), ['reset'], strange);
    }
  });
});
