import type { Cell } from './facts.ts';

/** What gaps say. */

export function samplingText(cells: readonly Cell[]): string {
  const stated = cells.filter((cell) => cell.probabilityMax > 0);
  const lowest = Math.min(...stated.map((cell) => cell.probabilityMin));
  const highest = Math.max(...stated.map((cell) => cell.probabilityMax));
  const sampled = sum(cells, (cell) => cell.sampled);
  const how =
    stated.length === 0 || lowest === 1
      ? 'keeps only a part of its spans, it does not say which'
      : lowest === highest
        ? `keeps only ${odds(lowest)} of its spans`
        : `keeps between ${odds(lowest)} and ${highest === 1 ? 'all' : odds(highest)} of its spans`;
  return `${how} (sampling stated by ${sampled} of ${sum(cells, (cell) => cell.spans)}): requests that were left out have no record`;
}

/** `1 in 10`, or a percentage where that says more. */
export function odds(probability: number): string {
  if (probability > 0.5) return `${Math.round(probability * 1000) / 10} %`;
  return `1 in ${Math.round(1 / probability)}`;
}

export function unsampledText(cells: readonly Cell[]): string {
  const spans = sum(cells, (cell) => cell.unsampled);
  return `sent ${spans} ${spans === 1 ? 'span' : 'spans'} of traces that were decided against (sampled flag off): what it called recorded nothing`;
}

export function localText(cells: readonly Cell[]): string {
  return `lost spans: ${shareText(cells, 'missingLocal')} name a parent in the same process that never came`;
}

export function remoteText(cells: readonly Cell[]): string {
  return `was called by something whose spans never came: ${shareText(cells, 'missingRemote')} name such a parent`;
}

function shareText(cells: readonly Cell[], kind: 'missingLocal' | 'missingRemote'): string {
  const [missing, children] = [sum(cells, (cell) => cell[kind]), sum(cells, (cell) => cell.children)];
  const percent = (100 * missing) / Math.max(1, children);
  return `${missing} of ${children} spans with a parent (${percent >= 10 ? Math.round(percent) : Math.round(percent * 10) / 10} %)`;
}

export function misdatedText(cells: readonly Cell[]): string {
  const pieces = sum(cells, (cell) => cell.misdated);
  return `sent ${pieces} ${pieces === 1 ? 'span or log record' : 'spans or log records'} whose time cannot be (a wrong clock, or far too late)`;
}

/** The service as a person reads it. */
export function serviceName(service: string): string {
  return service === '' ? '(no service.name)' : service;
}

/** `1 request`, `2 requests`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

const UNITS: readonly (readonly [milliseconds: number, name: string])[] = [
  [86_400_000, 'd'],
  [3_600_000, 'h'],
  [60_000, 'min'],
  [1000, 's'],
];

/** `3 h 12 min`, the two largest units. */
export function words(durationMs: number): string {
  const parts: string[] = [];
  let rest = Math.max(0, durationMs);
  for (const [size, name] of UNITS) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count} ${name}`);
    if (parts.length === 2 || (parts.length === 1 && count === 0)) break;
  }
  return parts.join(' ') || 'less than a second';
}

export function sum(cells: readonly Cell[], amount: (cell: Cell) => number): number {
  return cells.reduce((total, cell) => total + amount(cell), 0);
}
