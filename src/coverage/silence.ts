import type { Cell } from './facts.ts';

const DAY_MS = 86_400_000;
const WEEK_MS = 7 * DAY_MS;

/** Pieces of evidence that make traffic: a script that ran once is not missed. */
const TRAFFIC_PIECES_MIN = 10;

/** A service that is younger than a day is regular when it had evidence in at least this share of its hours. */
const REGULAR_SHARE = 0.5;

export interface Silence {
  readonly fromMs: number;
  readonly toMs: number;
  /** Not over by `nowMs`. */
  readonly ongoing: boolean;
  /** Why traffic was expected. */
  readonly why: string;
}

export interface SilenceOptions {
  /** Shorter ones are not named. At least an hour: within an hour only the first and the last time are known. */
  readonly silenceMs: number;
  /** Evidence up to here is counted; for what came later it is too early to say. */
  readonly nowMs: number;
  /** Milliseconds of the interval in which nothing could be seen, because Spantrail itself did not run. */
  readonly blindMs: (fromMs: number, toMs: number) => number;
}

/** The silences of a service that touch the range and in which traffic was to be expected; cells by hour, ascending. */
export function silencesOf(
  all: readonly Cell[],
  range: { readonly fromMs: number; readonly toMs: number },
  options: SilenceOptions,
): Silence[] {
  const cells = all.filter((cell) => cell.spans + cell.logs > 0);
  const silences: Silence[] = [];
  let pieces = 0;
  for (const [index, cell] of cells.entries()) {
    pieces += cell.spans + cell.logs;
    const next = cells[index + 1];
    const [fromMs, toMs] = [cell.lastMs, next?.firstMs ?? options.nowMs];
    if (toMs - fromMs < options.silenceMs || pieces < TRAFFIC_PIECES_MIN) continue;
    if (fromMs >= range.toMs || toMs < range.fromMs) continue;
    if (toMs - fromMs - options.blindMs(fromMs, toMs) < options.silenceMs) continue;
    const why = whyExpected(cells, index, { fromMs, untilMs: toMs - options.silenceMs });
    if (why !== undefined) silences.push({ fromMs, toMs, ongoing: next === undefined, why });
  }
  return silences;
}

/**
 * Traffic is expected where it was at the same time the day or the week before. A service that was quiet on that day
 * of the last week, though not on the day before that, rests at the weekend. Before there is a day to compare with,
 * it is expected to go on.
 */
function whyExpected(
  cells: readonly Cell[],
  index: number,
  { fromMs, untilMs }: { fromMs: number; untilMs: number },
): string | undefined {
  const firstMs = cells[0]?.firstMs ?? fromMs;
  if (firstMs > fromMs - DAY_MS) {
    const hours = (cells[index]?.hour ?? 0) - (cells[0]?.hour ?? 0) + 1;
    if ((index + 1) / hours < REGULAR_SHARE) return undefined;
    return hours === 1
      ? 'it was heard in that hour alone'
      : `until then it was heard in ${index + 1} of ${hours} hours`;
  }
  const hadTraffic = (backMs: number) => isBetween(cells, fromMs - backMs, untilMs - backMs);
  if (hadTraffic(WEEK_MS)) return 'at this time of the week before there was traffic';
  const restsOnThisDay = hadTraffic(WEEK_MS + DAY_MS);
  return hadTraffic(DAY_MS) && !restsOnThisDay ? 'at this time of the day before there was traffic' : undefined;
}

/** Is evidence known to have begun after `fromMs`, and no later than `toMs`? */
function isBetween(cells: readonly Cell[], fromMs: number, toMs: number): boolean {
  let [low, high] = [0, cells.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((cells[middle]?.lastMs ?? 0) > fromMs) high = middle;
    else low = middle + 1;
  }
  const cell = cells[low];
  return cell !== undefined && (cell.firstMs > fromMs ? cell.firstMs : cell.lastMs) <= toMs;
}
