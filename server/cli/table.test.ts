import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { cleanText, formatTable } from './table.ts';

describe('tables of the command line', () => {
  it('line up, also with wide characters', () => {
    const text = formatTable(
      ['ID', 'NAME', 'X'],
      [
        ['1', '東京', 'a'],
        ['22', 'web', 'b'],
      ],
    );
    assert.equal(text, 'ID  NAME  X\n1   東京  a\n22  web   b\n');
  });

  it('hold nothing that commands a terminal or turns text around', () => {
    assert.equal(cleanText('a\u001b[31mb\nc\u202ed\u0007'), 'a?[31mb?c?d?');
  });
});
