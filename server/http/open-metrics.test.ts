import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { encodeMetrics } from './open-metrics.ts';

describe('metrics as text', () => {
  it('writes families and ends the document', () => {
    const text = encodeMetrics([
      { name: 'dozo_queue_up', help: 'Whether the queue answers.', samples: [{ value: 1 }] },
      { name: 'dozo_none', help: 'Nothing.', samples: [] },
    ]);

    assert.equal(
      text,
      '# TYPE dozo_queue_up gauge\n# HELP dozo_queue_up Whether the queue answers.\ndozo_queue_up 1\n' +
        '# TYPE dozo_none gauge\n# HELP dozo_none Nothing.\n# EOF\n',
    );
  });

  it('lets no name break out of its label', () => {
    const text = encodeMetrics([
      { name: 'x', help: 'h', samples: [{ labels: { machine: 'a"} 1\nevil 2 \\ 仮想' }, value: 0 }] },
    ]);

    assert.equal(text.split('\n')[2], 'x{machine="a\\"} 1\\nevil 2 \\\\ 仮想"} 0');
    assert.equal(text.split('\n').length, 5);
  });
});
