import type { GapKind } from '../core/coverage.ts';
import type { Cell, CoverageFacts, Run, ServiceHours } from './facts.ts';
import {
  counted,
  localText,
  misdatedText,
  remoteText,
  samplingText,
  serviceName,
  sum,
  unsampledText,
  words,
} from './gap-texts.ts';
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
/** … of hours in which they are at least this share of the spans that name a parent: a killed process loses a few. */
const MISSING_SHARE = 0.01;

/** Refusals with less than this between them are one. */
export const REFUSAL_PAUSE_MS = 60_000;

/** Up to so many silences, pauses and refusals are named one by one; more are told together. */
const SINGLE_MAX = 3;

export function isWithin(range: Range, fromMs: number, toMs: number): boolean {
  return fromMs < range.toMs && toMs >= range.fromMs;
}

/**
 * Gaps of one service that touch the range: for each kind one, from the first hour of the range that has it to the last, and
 * its silences. `nowMs`: evidence that began before it is counted.
 */
export function gapsOfService(
  hours: ServiceHours,
  range: Range,
  { runs, settings, nowMs }: { runs: readonly Run[]; settings: GapSettings; nowMs: number },
): Gap[] {
  const { namespace, service, cells } = hours;
  const name = serviceName(service);
  const inRange = cells.filter((cell) => isWithin(range, cell.firstMs, cell.lastMs));
  const gapWhere = (kind: GapKind, fits: (cell: Cell) => boolean, say: (cells: readonly Cell[]) => string): Gap[] => {
    const fitting = inRange.filter(fits);
    const [first, last] = [fitting[0], fitting.at(-1)];
    if (first === undefined || last === undefined) return [];
    const between = inRange.lastIndexOf(last) - inRange.indexOf(first) + 1;
    const where = fitting.length < between ? ` (in ${fitting.length} of ${between} hours with evidence)` : '';
    const times = { fromMs: first.firstMs, toMs: last.lastMs, ongoing: last === cells.at(-1) };
    return [{ kind, namespace, service, ...times, text: `${name} ${say(fitting)}${where}` }];
  };
  const missing = (kind: 'missingLocal' | 'missingRemote', say: (cells: readonly Cell[]) => string): Gap[] => {
    const isMuch = (cell: Cell) => cell[kind] > 0 && cell[kind] >= MISSING_SHARE * cell.children;
    const isEnough = sum(inRange.filter(isMuch), (cell) => cell[kind]) >= MISSING_MIN;
    return isEnough ? gapWhere('missing_parents', isMuch, say) : [];
  };
  return [
    ...gapWhere('sampling', (cell) => cell.sampled > 0, samplingText),
    ...gapWhere('unsampled', (cell) => cell.unsampled > 0, unsampledText),
    ...missing('missingLocal', localText),
    ...missing('missingRemote', remoteText),
    ...gapWhere('misdated', (cell) => cell.misdated > 0, misdatedText),
    ...silenceGaps(hours, range, { runs, silenceMs: settings.silenceMs, nowMs }),
  ];
}

function silenceGaps(
  { namespace, service, cells }: ServiceHours,
  range: Range,
  { runs, silenceMs, nowMs }: { runs: readonly Run[]; silenceMs: number; nowMs: number },
): Gap[] {
  const name = serviceName(service);
  const blindMs = (fromMs: number, toMs: number) => downWithin(runs, fromMs, toMs);
  const gaps = silencesOf(cells, range, { silenceMs, nowMs, blindMs }).map(({ fromMs, toMs, ongoing, why }): Gap => {
    const text = `${name} ${ongoing ? 'is' : 'was'} silent for ${words(toMs - fromMs)}; ${why}`;
    return { kind: 'silence', namespace, service, fromMs, toMs, ongoing, text };
  });
  const over = gaps.filter((gap) => !gap.ongoing);
  const told = together(over, `${name} was silent ${over.length} times, for ${words(length(over))} in all`);
  return [...told, ...gaps.filter((gap) => gap.ongoing)];
}

/** Gaps of Spantrail itself that touch the range: they are gaps of every service. */
export function gapsOfAll(
  facts: CoverageFacts,
  range: Range,
  { settings, nowMs }: { settings: GapSettings; nowMs: number },
): Gap[] {
  const touches = ({ fromMs, toMs }: { fromMs: number; toMs: number }) => isWithin(range, fromMs, toMs);
  const down = pauses(facts.runs, settings.downMs).filter(touches);
  const refusals = facts.refusals.filter(touches);
  const consequence = 'what senders did not send again is missing';
  const refused = refusals.map(({ fromMs, toMs, requests }): Gap => {
    const text = `Spantrail refused ${counted(requests, 'request')}: ${consequence}`;
    return { kind: 'refused', fromMs, toMs, ongoing: toMs > nowMs - REFUSAL_PAUSE_MS, text };
  });
  const requests = refusals.reduce((total, refusal) => total + refusal.requests, 0);
  const unknown = facts.lost.filter(touches).map(({ fromMs, toMs, reason }): Gap => {
    return { kind: 'unknown', fromMs, toMs, ongoing: false, text: `the coverage of this time is not known: ${reason}` };
  });
  const unwatched = facts.unwatched.cells.filter(({ firstMs, lastMs }) => isWithin(range, firstMs, lastMs));
  const pieces = sum(unwatched, (cell) => cell.spans + cell.logs + cell.misdated);
  const evidence = `${pieces} ${pieces === 1 ? 'piece' : 'pieces'} of evidence`;
  const beyond = `${evidence} of services beyond coverage.servicesMax came: those are not watched`;
  const [first, last] = [unwatched[0], unwatched.at(-1)];
  return [
    ...together(down, `Spantrail did not run ${down.length} times, for ${words(length(down))} in all: ${consequence}`),
    ...together(
      refused,
      `Spantrail refused ${counted(requests, 'request')} at ${refusals.length} times: ${consequence}`,
    ),
    ...unknown,
    ...(first === undefined || last === undefined
      ? []
      : [{ kind: 'unwatched' as const, fromMs: first.firstMs, toMs: last.lastMs, ongoing: true, text: beyond }]),
  ];
}

/** The times between two runs. */
function pauses(runs: readonly Run[], downMs: number): Gap[] {
  return runs.slice(1).flatMap((run, index): Gap[] => {
    const before = runs[index];
    if (before === undefined || run.startedMs - before.aliveMs < downMs) return [];
    const text = `Spantrail ${how(before)} for ${words(run.startedMs - before.aliveMs)}: what senders did not send again is missing`;
    return [{ kind: 'down', fromMs: before.aliveMs, toMs: run.startedMs, ongoing: false, text }];
  });
}

function how({ isPaused, isClean }: Run): string {
  if (isPaused) return 'stood still (the machine slept, its clock was set forward or its disk did not answer)';
  if (isClean) return 'was stopped and did not run';
  return 'ended without a stop (killed, or power was lost) and did not run';
}

/** The gaps as they are when they are few, else one from the first to the last. */
function together(gaps: readonly Gap[], text: string): readonly Gap[] {
  const [first, last] = [gaps[0], gaps.at(-1)];
  if (gaps.length <= SINGLE_MAX || first === undefined || last === undefined) return gaps;
  return [{ ...first, toMs: last.toMs, ongoing: last.ongoing, text }];
}

function length(gaps: readonly Gap[]): number {
  return gaps.reduce((total, { fromMs, toMs }) => total + toMs - fromMs, 0);
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
