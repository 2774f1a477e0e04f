import { cellText, isNumeric } from '../core/cell-text.ts';
import type { Table } from '../core/insight.ts';
import { type Paint, printable } from './format.ts';

/** Longest text of a cell; the JSON document has all of it. */
const CELL_CHARS_MAX = 72;

/** A table for a terminal: its title, a head, a line each row; or what there is to say when it is empty. */
export function tableText({ title, columns, rows, empty, more }: Table, paint: Paint): string {
  if (rows.length === 0) return `${paint.bold(title)}\n  ${empty}\n`;
  const cells = rows.map((row) => columns.map((column) => shortened(cellText(column, row[column.name] ?? null))));
  const widths = columns.map(({ title: head }, at) =>
    Math.max(head.length, ...cells.map((row) => (row[at] ?? '').length)),
  );
  const padded = (value: string, at: number) => {
    const column = columns[at];
    return column && isNumeric(column) ? value.padStart(widths[at] ?? 0) : value.padEnd(widths[at] ?? 0);
  };
  const line = (values: readonly string[]) => `  ${values.map(padded).join('  ').trimEnd()}`;
  const rest = more ? [`  ${paint.dim('there are more; --limit shows them')}`] : [];
  const head = paint.dim(line(columns.map((column) => column.title)));
  return [paint.bold(title), head, ...cells.map(line), ...rest, ''].join('\n');
}

function shortened(value: string): string {
  const text = printable(value);
  return text.length > CELL_CHARS_MAX ? `${text.slice(0, CELL_CHARS_MAX - 1)}…` : text;
}
