import type { GapKind } from '../core/coverage.ts';
import type { Cell, CoverageFacts, Run, ServiceHours } from './facts.ts';
import { silencesOf } from './silence.ts';

/** A gap before its times are written out. Epoch milliseconds. */
export interface Gap {
  readonly kind: GapKind;
  readonly namespace?: string;
  readonly service?: string;
  readonly fromMs: number;
  readonly toMs: number;
  readonly ongoing: boolean;
  readonly text: string;
}

export interface GapSettings {
  /** Silences shorter than this are not named. */
  readonly silenceMs: number;
  /** Nor are pauses of Spantrail itself shorter than this: exporters try again that long. */
  readonly downMs: number;
}

export interface Range {
  readonly fromMs: number;
  /** Exclusive. */
  readonly toMs: number;
}

/** Spans whose parent never came are named from this many on … */
const MISSING_MIN = 3;
/** … when they are at least this share of the spans that name a parent: a process that is killed loses a few. */
const MISSING_SHARE = 0.01;

/** Refusals with less than this between them are one. */
export const REFUSAL_PAUSE_MS = 60_000;

export function isWithin(range: Range, fromMs: number, toMs: number): boolean {
  return fromMs < range.toMs && toMs >= range.fromMs;
}

/** The service as a person reads it. */
export function serviceName(service: string): string {
  return service === '' ? '(no service.name)' : service;
}

/** Gaps of one service that touch the range. `nowMs`: evidence that began before it is counted. */
export function gapsOfService(
  hours: ServiceHours,
  range: Range,
  { runs, settings, nowMs }: { runs: readonly Run[]; settings: GapSettings; nowMs: number },
): Gap[] {
  const { namespace, service, cells } = hours;
  const name = serviceName(service);
  const inRange = cells.filter((cell) => isWithin(range, cell.firstMs, cell.lastMs));
  const newest = cells.at(-1);
  const gap = (kind: GapKind, stretch: readonly Cell[], text: string): Gap[] => {
    const [first, last] = [stretch[0], stretch.at(-1)];
    if (first === undefined || last === undefined) return [];
    const times = { fromMs: first.firstMs, toMs: last.lastMs, ongoing: last === newest };
    return [{ kind, namespace, service, ...times, text: `${name} ${text}` }];
  };
  const blindMs = (fromMs: number, toMs: number) => downWithin(runs, fromMs, toMs);
  const silences = silencesOf(cells, { silenceMs: settings.silenceMs, nowMs, blindMs })
    .filter(({ fromMs, toMs }) => isWithin(range, fromMs, toMs))
    .map(({ fromMs, toMs, ongoing, why }): Gap => {
      const text = `${name} ${ongoing ? 'is' : 'was'} silent for ${words(toMs - fromMs)}; ${why}`;
      return { kind: 'silence', namespace, service, fromMs, toMs, ongoing, text };
    });
  return [
    ...stretches(inRange, (cell) => cell.sampled > 0).flatMap((cells) => gap('sampling', cells, samplingText(cells))),
    ...stretches(inRange, (cell) => cell.unsampled > 0).flatMap((cells) =>
      gap('unsampled', cells, `${unsampledText(sum(cells, (cell) => cell.unsampled))}`),
    ),
    ...missingParents(inRange, 'missingLocal').flatMap((cells) => gap('missing_parents', cells, localText(cells))),
    ...missingParents(inRange, 'missingRemote').flatMap((cells) => gap('missing_parents', cells, remoteText(cells))),
    ...stretches(inRange, (cell) => cell.misdated > 0).flatMap((cells) =>
      gap('misdated', cells, misdatedText(sum(cells, (cell) => cell.misdated))),
    ),
    ...silences,
  ];
}

/** Gaps of Spantrail itself that touch the range: they are gaps of every service. */
export function gapsOfAll(
  { runs, refusals, lost, unwatched }: CoverageFacts,
  range: Range,
  { settings, nowMs }: { settings: GapSettings; nowMs: number },
): Gap[] {
  const down = runs.slice(1).flatMap((run, index): Gap[] => {
    const before = runs[index];
    if (before === undefined || run.startedMs - before.aliveMs < settings.downMs) return [];
    const how = before.isClean ? 'was stopped' : 'ended without a stop (killed, or power was lost)';
    const text = `Spantrail ${how} and did not run for ${words(run.startedMs - before.aliveMs)}: what senders did not send again is missing`;
    return [{ kind: 'down', fromMs: before.aliveMs, toMs: run.startedMs, ongoing: false, text }];
  });
  const refused = refusals.map(({ fromMs, toMs, requests }): Gap => {
    const text = `Spantrail refused ${requests} ${requests === 1 ? 'request' : 'requests'}: what senders did not send again is missing`;
    return { kind: 'refused', fromMs, toMs, ongoing: toMs > nowMs - REFUSAL_PAUSE_MS, text };
  });
  const unknown = lost.map(({ fromMs, toMs, reason }): Gap => {
    return { kind: 'unknown', fromMs, toMs, ongoing: false, text: `the coverage of this time is not known: ${reason}` };
  });
  const watched = stretches(unwatched.cells, () => true).map((cells): Gap => {
    const pieces = sum(cells, (cell) => cell.spans + cell.logs + cell.misdated);
    const text = `${pieces} spans and log records are of services beyond coverage.servicesMax, which are not watched`;
    return { kind: 'unwatched', fromMs: cells[0]?.firstMs ?? 0, toMs: cells.at(-1)?.lastMs ?? 0, ongoing: true, text };
  });
  return [...down, ...refused, ...unknown, ...watched].filter(({ fromMs, toMs }) => isWithin(range, fromMs, toMs));
}

/** Milliseconds between the two instants in which no process ran. */
function downWithin(runs: readonly Run[], fromMs: number, toMs: number): number {
  let downMs = 0;
  for (const [index, run] of runs.entries()) {
    const before = runs[index - 1];
    if (before !== undefined) downMs += Math.max(0, Math.min(run.startedMs, toMs) - Math.max(before.aliveMs, fromMs));
  }
  return downMs;
}

/** Runs of neighbouring hours (hours without evidence left out) that all fit. */
function stretches(cells: readonly Cell[], fits: (cell: Cell) => boolean): Cell[][] {
  const found: Cell[][] = [];
  let open: Cell[] | undefined;
  for (const cell of cells) {
    if (!fits(cell)) {
      open = undefined;
    } else if (open === undefined) {
      open = [cell];
      found.push(open);
    } else {
      open.push(cell);
    }
  }
  return found;
}

/** All of the range, from the first hour with one to the last, where they are many enough; else the hours where they are. */
function missingParents(cells: readonly Cell[], kind: 'missingLocal' | 'missingRemote'): Cell[][] {
  const hasSome = (cell: Cell) => cell[kind] > 0;
  const whole = cells.slice(cells.findIndex(hasSome), cells.findLastIndex(hasSome) + 1);
  const isMany = (stretch: readonly Cell[]) => {
    const missing = sum(stretch, (cell) => cell[kind]);
    return missing >= MISSING_MIN && missing >= MISSING_SHARE * sum(stretch, (cell) => cell.children);
  };
  return isMany(whole) ? [whole] : stretches(cells, hasSome).filter(isMany);
}

function samplingText(cells: readonly Cell[]): string {
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

function unsampledText(spans: number): string {
  return `sent ${spans} ${spans === 1 ? 'span' : 'spans'} of traces that were decided against (sampled flag off): what it called recorded nothing`;
}

function localText(cells: readonly Cell[]): string {
  return `lost spans: ${shareText(cells, 'missingLocal')} name a parent in the same process that never came`;
}

function remoteText(cells: readonly Cell[]): string {
  return `was called by something whose spans never came: ${shareText(cells, 'missingRemote')} name such a parent`;
}

function shareText(cells: readonly Cell[], kind: 'missingLocal' | 'missingRemote'): string {
  const [missing, children] = [sum(cells, (cell) => cell[kind]), sum(cells, (cell) => cell.children)];
  const percent = (100 * missing) / Math.max(1, children);
  return `${missing} of ${children} spans with a parent (${percent >= 10 ? Math.round(percent) : Math.round(percent * 10) / 10} %)`;
}

function misdatedText(pieces: number): string {
  return `sent ${pieces} ${pieces === 1 ? 'span or log record' : 'spans or log records'} whose time cannot be (a wrong clock, or far too late)`;
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

function sum(cells: readonly Cell[], amount: (cell: Cell) => number): number {
  return cells.reduce((total, cell) => total + amount(cell), 0);
}
