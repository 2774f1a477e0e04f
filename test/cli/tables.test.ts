import { expect, it } from 'vitest';
import { createPaint } from '../../src/cli/format.ts';
import { tableText } from '../../src/cli/tables.ts';
import type { Table } from '../../src/core/insight.ts';

const PLAIN = createPaint(false);

const TABLE: Table = {
  title: 'Targets',
  columns: [
    { name: 'target', title: 'Target', type: 'text' },
    { name: 'accesses', title: 'Accesses', type: 'count' },
    { name: 'mean', title: 'Mean', type: 'duration' },
    { name: 'share', title: 'Share', type: 'share' },
    { name: 'rate', title: 'Rate', type: 'number' },
    { name: 'last', title: 'Last', type: 'time' },
  ],
  rows: [
    { target: 'orders', accesses: 12, mean: 41_000_000, share: 0.5, rate: 1.006, last: '2026-11-22T10:00:00.123Z' },
    { target: 'a\u001b[2J\nb', accesses: 1, mean: null, share: null, rate: 2, last: null },
  ],
  empty: 'nothing',
  more: true,
};

it('writes a table in columns, numbers at the right, what is not known as a dash, nothing that steers a terminal', () => {
  expect(tableText(TABLE, PLAIN)).toBe(
    [
      'Targets',
      '  Target   Accesses   Mean   Share  Rate  Last',
      '  orders         12  41 ms  50.0 %  1.01  2026-11-22 10:00:00',
      '  a\ufffd[2J b         1      –       –     2  –',
      '  there are more; --limit shows them',
      '',
    ].join('\n'),
  );
});

it('cuts what is long, and says why nothing is there', () => {
  const long = { ...TABLE, rows: [{ target: 'x'.repeat(100) }], more: false };
  expect(tableText(long, PLAIN)).toContain(`${'x'.repeat(71)}… `);
  expect(tableText({ ...TABLE, rows: [] }, PLAIN)).toBe('Targets\n  nothing\n');
});
