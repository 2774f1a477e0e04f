import type { Cell, Column, Table } from '../core/insight.ts';
import { formatDuration, type Paint, printable } from './format.ts';

/** Longest text of a cell; the JSON document has all of it. */
const CELL_CHARS_MAX = 72;

/** A table for a terminal: its title, a head, a line each row; or what there is to say when it is empty. */
export function tableText({ title, columns, rows, empty, more }: Table, paint: Paint): string {
  if (rows.length === 0) return `${paint.bold(title)}\n  ${empty}\n`;
  const cells = rows.map((row) => columns.map((column) => cellText(column, row[column.name] ?? null)));
  const widths = columns.map(({ title: head }, at) =>
    Math.max(head.length, ...cells.map((row) => (row[at] ?? '').length)),
  );
  const line = (values: readonly string[]) =>
    `  ${values
      .map((value, at) =>
        columns[at]?.type === 'text' || columns[at]?.type === 'time'
          ? value.padEnd(widths[at] ?? 0)
          : value.padStart(widths[at] ?? 0),
      )
      .join('  ')
      .trimEnd()}`;
  const rest = more ? [`  ${paint.dim('there are more; --limit shows them')}`] : [];
  return [
    paint.bold(title),
    paint.dim(line(columns.map(({ title: head }) => head))),
    ...cells.map(line),
    ...rest,
    '',
  ].join('\n');
}

function cellText({ type }: Column, value: Cell): string {
  if (value === null) return type === 'text' ? '' : '–';
  if (type === 'duration') return formatDuration(Number(value));
  if (type === 'share') return `${(Number(value) * 100).toFixed(1)} %`;
  if (type === 'number') return String(Math.round(Number(value) * 100) / 100);
  if (type === 'time') return String(value).slice(0, 19).replace('T', ' ');
  const text = printable(String(value));
  return text.length > CELL_CHARS_MAX ? `${text.slice(0, CELL_CHARS_MAX - 1)}…` : text;
}
