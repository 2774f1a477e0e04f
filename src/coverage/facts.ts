import { COVERAGE_COUNTS, type CoverageCounts, type CoverageNote, HOUR_MS } from '../core/coverage.ts';

/** What is known of one service in one UTC hour. */
export interface Cell extends CoverageCounts {
  readonly hour: number;
  /** Earliest and newest start of evidence, epoch milliseconds. */
  firstMs: number;
  lastMs: number;
  probabilityMin: number;
  probabilityMax: number;
  /** Spans and log records that came in this hour with a time that cannot be; counted nowhere else. */
  misdated: number;
}

export interface ServiceHours {
  readonly namespace: string;
  readonly service: string;
  /** By hour, ascending; only hours with evidence. */
  readonly cells: Cell[];
}

/** One run of the process, epoch milliseconds. */
export interface Run {
  readonly startedMs: number;
  /** It ran at least until then. */
  aliveMs: number;
  /** It said that it stops; else it was killed, lost power, or still runs. */
  isClean: boolean;
  /** It did not end, but did nothing between this run and the next: the machine slept, or its disk did not answer. */
  isPaused?: boolean;
}

/** A time in which requests were refused. */
export interface Refusal {
  readonly fromMs: number;
  toMs: number;
  requests: number;
}

/** A day whose figures could not be read. */
export interface LostDay {
  readonly fromMs: number;
  readonly toMs: number;
  readonly reason: string;
}

/** Everything that coverage is told from. */
export interface CoverageFacts {
  readonly services: readonly ServiceHours[];
  /** Evidence of services beyond the limit, all namespaces together. */
  readonly unwatched: ServiceHours;
  /** Oldest first; the last one is this run. */
  readonly runs: readonly Run[];
  readonly refusals: readonly Refusal[];
  readonly lost: readonly LostDay[];
}

/** A clock ahead of ours by more than this is wrong: evidence of the future has no hour yet. */
const AHEAD_MAX_MS = HOUR_MS;

/**
 * Adds a note to the hours of its service. Notes of a time before `oldestMs` or of the future are counted as misdated, in the
 * hour in which they came.
 */
export function addNote(
  hours: ServiceHours,
  note: CoverageNote,
  { oldestMs, nowMs }: { oldestMs: number; nowMs: number },
): Cell {
  const isMisdated = note.lastMs < oldestMs || note.firstMs > nowMs + AHEAD_MAX_MS;
  if (isMisdated) {
    const cell = cellOf(hours.cells, Math.floor(nowMs / HOUR_MS), nowMs);
    cell.misdated += Math.max(0, note.spans + note.logs);
    cell.lastMs = Math.max(cell.lastMs, nowMs);
    return cell;
  }
  return addCounts(hours, note);
}

/** Adds what was counted to the cell of its hour, and answers that cell. */
export function addCounts(
  { cells }: ServiceHours,
  counted: Omit<Cell, 'misdated'> & { readonly misdated?: number },
): Cell {
  const cell = cellOf(cells, counted.hour, counted.firstMs);
  // A note that takes something back may find less than it remembers, after a crash.
  for (const name of COVERAGE_COUNTS) cell[name] = Math.max(0, cell[name] + counted[name]);
  cell.misdated += counted.misdated ?? 0;
  cell.firstMs = Math.min(cell.firstMs, counted.firstMs);
  cell.lastMs = Math.max(cell.lastMs, counted.lastMs);
  if (counted.probabilityMax > 0) {
    cell.probabilityMin =
      cell.probabilityMin === 0 ? counted.probabilityMin : Math.min(cell.probabilityMin, counted.probabilityMin);
    cell.probabilityMax = Math.max(cell.probabilityMax, counted.probabilityMax);
  }
  return cell;
}

/** The cell of the hour, made where there is none. Most notes are of the newest hour. */
function cellOf(cells: Cell[], hour: number, atMs: number): Cell {
  let place = cells.length;
  while (place > 0 && (cells[place - 1]?.hour ?? 0) > hour) place -= 1;
  const known = cells[place - 1];
  if (known?.hour === hour) return known;
  const made = emptyCell(hour, atMs);
  cells.splice(place, 0, made);
  return made;
}

export function emptyCell(hour: number, atMs: number): Cell {
  const counts = { spans: 0, roots: 0, logs: 0, stated: 0, sampled: 0, unsampled: 0 };
  const parents = { children: 0, missingLocal: 0, missingRemote: 0 };
  return {
    hour,
    firstMs: atMs,
    lastMs: atMs,
    ...counts,
    ...parents,
    probabilityMin: 0,
    probabilityMax: 0,
    misdated: 0,
  };
}
