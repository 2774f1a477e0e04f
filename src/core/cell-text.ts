import { formatDuration } from './duration-text.ts';
import type { Cell, Column } from './insight.ts';

/** A value of a table in words; empty for a text that is not known, a dash for a number. */
export function cellText({ type }: Column, value: Cell): string {
  if (value === null) return type === 'text' ? '' : '–';
  if (type === 'duration') return formatDuration(Number(value));
  if (type === 'share') return `${(Number(value) * 100).toFixed(1)} %`;
  if (type === 'number') return String(Math.round(Number(value) * 100) / 100);
  if (type === 'time') return String(value).slice(0, 19).replace('T', ' ');
  return String(value);
}

/** Numbers stand at the right. */
export function isNumeric({ type }: Column): boolean {
  return type !== 'text' && type !== 'time';
}
