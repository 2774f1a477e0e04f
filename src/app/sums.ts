import type { EvidenceSum, Sum } from '../api/contract.ts';
import { Counters, type Labels, type MetricName } from '../core/metrics.ts';
import { scanLogs, scanTraces } from '../otlp/scan.ts';
import type { Frame } from '../wal/frame.ts';
import { comparePositions, type FramePosition } from '../wal/segment-format.ts';
import type { JournalEntry, JournalMark } from '../wal/settle-journal.ts';

const USES = ['used', 'context', 'excluded', 'duplicate', 'quarantined'] as const;

/** What marks hold, in the order in which they hold it: more may be added at the end, nothing ever changes its place. */
const TOTALS: readonly { readonly name: MetricName; readonly labels: Labels }[] = [
  ...['traces', 'logs', 'metrics'].map((signal) => ({ name: 'accepted' as const, labels: { signal } })),
  ...['traces', 'logs'].flatMap((signal) =>
    USES.map((use) => ({ name: 'evidence' as const, labels: { signal, use } })),
  ),
  { name: 'written', labels: {} },
  { name: 'outranked', labels: {} },
  { name: 'revisions', labels: {} },
  ...['store', 'decode', 'settle'].map((stage) => ({ name: 'quarantined' as const, labels: { stage } })),
  ...['used', 'context', 'duplicate'].map((use) => ({ name: 'evidence' as const, labels: { signal: 'metrics', use } })),
];

const IGNORED: Labels = { signal: 'logs', use: 'context' };
const REFUSED: Labels = { stage: 'store' };
const EXPIRED: Labels = { signal: 'metrics', use: 'expired' };

/** What the counters said at one moment, for sums with what the shards say of the same moment. */
export interface Moment {
  readonly totals: ReadonlyMap<string, number>;
  readonly records: number;
  readonly recordsPending: number;
  readonly metrics: EvidenceSum;
  /** Ignored log records of segments before this one are in the totals. */
  readonly ignoredBefore: number;
}

/**
 * Accepted = pending + what became of it, for each signal and for records, since the data folder was made: the totals are in
 * the settle journal's marks, so that a restart goes on counting. What is counted moves together with what it counts: a
 * frame is counted when it is durable, a settle when its journal entry is.
 */
export class Sums {
  readonly #counters: Counters;
  #acceptedThrough: FramePosition = { segment: 0, offset: 0 };
  #storedBefore = 0;
  /** Ignored log records that the counters hold on top of the totals: their segments may be read again by a restart. */
  #ignoredOnTop = 0;
  #marked = '';
  #markedBefore = 0;

  constructor(counters: Counters) {
    this.#counters = counters;
  }

  /** All evidence in earlier segments is stored: where a restart begins to read. */
  get storedBefore(): number {
    return this.#storedBefore;
  }

  /**
   * The same as the newest mark has it. Segments may go only before this: what a later one holds is counted anew, from its
   * frames, when the process ends without another mark.
   */
  get markedBefore(): number {
    return this.#markedBefore;
  }

  /** A frame is durable. */
  accept(frame: Frame & { readonly position: FramePosition }): void {
    if (frame.signal === 'metrics') return;
    this.#counters.add('accepted', itemsOf(frame), { signal: frame.signal });
    // A replay comes to older frames while new ones are accepted.
    if (comparePositions(frame.position, this.#acceptedThrough) > 0) this.#acceptedThrough = frame.position;
  }

  /** What the last run left: its newest mark, before any frame is accepted. */
  restore(mark: JournalMark): void {
    let pointsGone = 0;
    for (const [index, { name, labels }] of TOTALS.entries()) {
      const total = mark.totals[index] ?? 0;
      this.#counters.add(name, total, labels);
      if (name === 'written' || name === 'outranked' || labels['stage'] === 'store')
        this.#counters.add('records', total);
      if (labels['signal'] === 'metrics') pointsGone += name === 'accepted' ? total : -total;
    }
    // Points are kept in memory alone: those that no record showed went with the process.
    this.#counters.add('evidence', pointsGone, EXPIRED);
    if (comparePositions(mark.acceptedThrough, this.#acceptedThrough) > 0) this.#acceptedThrough = mark.acceptedThrough;
    this.#storedBefore = mark.storedBefore;
    this.#markedBefore = mark.storedBefore;
  }

  /** Evidence that was settled, by its entries in the journal. */
  settled(entries: readonly Pick<JournalEntry, 'fresh'>[], counters = this.#counters): void {
    // Thousands of entries at a time: the counters, which look up names and labels, are asked once.
    for (const signal of ['traces', 'logs'] as const) {
      const total = { used: 0, context: 0, excluded: 0, duplicate: 0, quarantined: 0 };
      for (const { fresh } of entries) {
        const counts = fresh[signal];
        total.used += counts.used;
        total.context += counts.context;
        total.excluded += counts.excluded;
        total.duplicate += counts.duplicate;
        total.quarantined += counts.quarantined;
      }
      for (const use of USES) if (total[use] > 0) counters.add('evidence', total[use], { signal, use });
    }
  }

  /** The mark for a batch whose counts are not in the counters yet. */
  mark(atMs: number, added = new Counters()): JournalMark {
    const totals = TOTALS.map(({ name, labels }) => this.#total(name, labels) + added.total(name, labels));
    return { atMs, storedBefore: this.#storedBefore, acceptedThrough: this.#acceptedThrough, totals };
  }

  /** The batch is in the journal. */
  add(added: Counters): void {
    for (const { name, labels, value } of added.samples()) this.#counters.add(name, value, labels);
  }

  /** Would a mark say something that the last one that was written did not? */
  isMarked(mark: JournalMark): boolean {
    return this.#marked === textOf(mark);
  }

  marked(mark: JournalMark): void {
    this.#marked = textOf(mark);
    this.#markedBefore = mark.storedBefore;
  }

  /**
   * Everything before this segment is stored. `ignored`: log records by segment that are counted without being kept; those of
   * segments that no restart reads again move into the totals.
   */
  advance(before: number, ignored: readonly ReadonlyMap<number, number>[]): void {
    const storedBefore = Math.max(before, this.#storedBefore);
    let [onTop, moved] = [0, 0];
    for (const [segment, count] of ignored.flatMap((bySegment) => [...bySegment])) {
      if (segment >= storedBefore) onTop += count;
      else if (segment >= this.#storedBefore) moved += count;
    }
    this.#counters.add('evidence', moved + onTop - this.#ignoredOnTop, IGNORED);
    this.#ignoredOnTop = onTop;
    this.#storedBefore = storedBefore;
  }

  moment(recordsPending: number): Moment {
    const totals = new Map(TOTALS.map(({ name, labels }) => [keyOf(name, labels), this.#total(name, labels)]));
    const [records, ignoredBefore] = [this.#counters.total('records'), this.#storedBefore];
    return { totals, records, recordsPending, metrics: this.#metrics(), ignoredBefore };
  }

  /** All of one turn: points are counted where they go in the turn in which they are accepted. */
  #metrics(): EvidenceSum {
    const use = (name: string) => this.#counters.total('evidence', { signal: 'metrics', use: name });
    const accepted = this.#counters.total('accepted', { signal: 'metrics' });
    const pending = this.#counters.total('pressure_points');
    const [used, context, duplicate, expired] = [use('used'), use('context'), use('duplicate'), use('expired')];
    const difference = accepted - pending - used - context - duplicate - expired;
    return {
      of: 'metrics',
      accepted,
      pending,
      used,
      context,
      excluded: 0,
      duplicate,
      expired,
      quarantined: 0,
      difference,
    };
  }

  #total(name: MetricName, labels: Labels): number {
    const total = this.#counters.total(name, labels);
    return name === 'evidence' && labels['signal'] === 'logs' && labels['use'] === 'context'
      ? total - this.#ignoredOnTop
      : total;
  }
}

/** The sums of a moment, with what the shards said of it. */
export function sumsOf(
  { totals, records, recordsPending, metrics, ignoredBefore }: Moment,
  pending: { readonly traces: number; readonly logs: number },
  ignored: readonly ReadonlyMap<number, number>[],
): Sum[] {
  const total = (name: MetricName, labels: Labels) => totals.get(keyOf(name, labels)) ?? 0;
  let ignoredOnTop = 0;
  for (const [segment, count] of ignored.flatMap((bySegment) => [...bySegment]))
    if (segment >= ignoredBefore) ignoredOnTop += count;
  const evidence = (['traces', 'logs'] as const).map((signal): EvidenceSum => {
    const use = (name: (typeof USES)[number]) => total('evidence', { signal, use: name });
    const places = {
      pending: pending[signal],
      used: use('used'),
      context: use('context') + (signal === 'logs' ? ignoredOnTop : 0),
      excluded: use('excluded'),
      duplicate: use('duplicate'),
      expired: 0,
      quarantined: use('quarantined'),
    };
    const accepted = total('accepted', { signal });
    const placed = Object.values(places).reduce((sum, count) => sum + count, 0);
    return { of: signal, accepted, ...places, difference: accepted - placed };
  });
  const stored = total('written', {}) + total('outranked', {});
  const quarantined = total('quarantined', REFUSED);
  const difference = records - stored - recordsPending - quarantined;
  return [
    ...evidence,
    metrics,
    { of: 'records', settled: records, stored, pending: recordsPending, quarantined, difference },
  ];
}

/** Spans with ids, or log records. */
function itemsOf(frame: Frame): number {
  if (frame.items !== undefined) return frame.items;
  const result = frame.signal === 'traces' ? scanTraces(frame.payload) : scanLogs(frame.payload);
  return result.ok ? result.items - result.rejected : 0;
}

function keyOf(name: MetricName, labels: Labels): string {
  return `${name} ${Object.values(labels).join()}`;
}

function textOf({ storedBefore, acceptedThrough, totals }: JournalMark): string {
  return [storedBefore, acceptedThrough.segment, acceptedThrough.offset, ...totals].join();
}
