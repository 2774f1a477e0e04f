import { msToNs, nsToMs } from '../core/clock.ts';
import type { CoverageNote, ObservedEvidence, ObservedTrace } from '../core/coverage.ts';
import { COVERAGE_COUNTS, HOUR_MS } from '../core/coverage.ts';
import { type LogRecord, OWN_SENDER, type Span } from '../core/evidence.ts';
import { bytesOf } from '../core/raw-bytes.ts';
import { hasRemoteParent, isUnsampled, samplingOf } from './sampling.ts';

/** Characters of a service's name that are kept: senders may write anything there, and memory is bounded. */
export const SERVICE_CHARS_MAX = 200;

const HOUR_NS = msToNs(HOUR_MS);

/**
 * What the fresh evidence of one settle adds to the coverage of its services: the difference between all that is known of the
 * trace now and what was known before. So a parent that comes late takes back that it was missing (a negative count),
 * and a span that is sent again counts once as long as its trace is within the horizon.
 */
export function observe({ namespace, fresh, earlier, isWhole }: ObservedTrace): CoverageNote[] {
  if (earlier.spans.length === 0) return [...summarise(namespace, fresh, isWhole).values()];
  const all = { spans: [...earlier.spans, ...fresh.spans], logs: [...earlier.logs, ...fresh.logs] };
  const before = summarise(namespace, earlier, isWhole);
  const notes: CoverageNote[] = [];
  for (const [key, note] of summarise(namespace, all, isWhole)) {
    const known = before.get(key);
    if (known !== undefined) for (const name of COVERAGE_COUNTS) note[name] -= known[name];
    if (COVERAGE_COUNTS.some((name) => note[name] !== 0)) notes.push(note);
    before.delete(key);
  }
  // A span whose other content won: it began in another hour, or is another service's.
  for (const note of before.values()) {
    for (const name of COVERAGE_COUNTS) note[name] = 0 - note[name];
    notes.push(note);
  }
  return notes;
}

function summarise(namespace: string, { spans, logs }: ObservedEvidence, isWhole: boolean): Map<string, CoverageNote> {
  const sums = new HourSums(namespace);
  const distinct = distinctSpans(spans);
  for (const span of distinct.values()) {
    const note = sums.noteOf(span, span.startNs || span.endNs);
    note.spans += 1;
    if (isUnsampled(span)) note.unsampled += 1;
    countSampling(note, span);
    if (span.parentSpanId === '') note.roots += 1;
    else if (isWhole) countParent(note, span, distinct);
  }
  for (const log of logs) {
    // That nobody looks at records for a while is no gap.
    if (log.note.sender !== OWN_SENDER) sums.noteOf(log, log.timeNs || log.observedNs).logs += 1;
  }
  return sums.notes();
}

/** Of several contents of one span the same one whatever their order: the one that ends last, then that with more bytes. */
function distinctSpans(spans: readonly Span[]): Map<string, Span> {
  const distinct = new Map<string, Span>();
  for (const span of spans) {
    const known = distinct.get(span.spanId);
    if (known === undefined || isStronger(span, known)) distinct.set(span.spanId, span);
  }
  return distinct;
}

function isStronger(span: Span, than: Span): boolean {
  if (span.endNs !== than.endNs) return span.endNs > than.endNs;
  if (span.raw.byteLength !== than.raw.byteLength) return span.raw.byteLength > than.raw.byteLength;
  const order = Buffer.compare(bytesOf(span.raw), bytesOf(than.raw));
  return order === 0 ? serviceOf(span) > serviceOf(than) : order > 0;
}

function serviceOf({ resource }: Span | LogRecord): string {
  const name = resource.attributes.get('service.name');
  return typeof name === 'string' ? name.slice(0, SERVICE_CHARS_MAX) : '';
}

function countSampling(note: CoverageNote, span: Span): void {
  const word = samplingOf(span);
  if (word.kind === 'silent') return;
  note.stated += 1;
  if (word.probability !== 1) note.sampled += 1;
  if (word.probability === undefined) return;
  const lowest = note.probabilityMin === 0 ? word.probability : Math.min(note.probabilityMin, word.probability);
  note.probabilityMin = lowest;
  note.probabilityMax = Math.max(note.probabilityMax, word.probability);
}

function countParent(note: CoverageNote, span: Span, distinct: ReadonlyMap<string, Span>): void {
  note.children += 1;
  if (distinct.has(span.parentSpanId)) return;
  if (hasRemoteParent(span)) note.missingRemote += 1;
  else note.missingLocal += 1;
}

/** One service in one hour. */
interface HourSum {
  readonly note: CoverageNote;
  /** The hour, from and to, and what was seen of it; epoch nanoseconds. */
  readonly fromNs: bigint;
  readonly toNs: bigint;
  firstNs: bigint;
  lastNs: bigint;
}

/** Notes by hour and service. Most pieces of a trace are of the service and the hour of the one before. */
class HourSums {
  readonly #namespace: string;
  readonly #sums = new Map<string, HourSum>();
  #last: HourSum | undefined;
  #resource: object | undefined;

  constructor(namespace: string) {
    this.#namespace = namespace;
  }

  noteOf(piece: Span | LogRecord, timeNs: bigint): CoverageNote {
    // What carries no time at all came when it was received.
    const atNs = timeNs || piece.note.receivedNs;
    let sum = this.#last;
    if (sum === undefined || piece.resource !== this.#resource || atNs < sum.fromNs || atNs >= sum.toNs) {
      sum = this.#sumOf(serviceOf(piece), atNs);
      this.#last = sum;
      this.#resource = piece.resource;
    }
    if (atNs < sum.firstNs) sum.firstNs = atNs;
    if (atNs > sum.lastNs) sum.lastNs = atNs;
    return sum.note;
  }

  notes(): Map<string, CoverageNote> {
    const notes = new Map<string, CoverageNote>();
    for (const [key, { note, firstNs, lastNs }] of this.#sums) {
      note.firstMs = nsToMs(firstNs);
      note.lastMs = nsToMs(lastNs);
      notes.set(key, note);
    }
    return notes;
  }

  #sumOf(service: string, atNs: bigint): HourSum {
    const hour = Math.floor(nsToMs(atNs) / HOUR_MS);
    const key = `${hour} ${service}`;
    const known = this.#sums.get(key);
    if (known !== undefined) return known;
    const fromNs = msToNs(hour * HOUR_MS);
    const note = emptyNote(this.#namespace, service, hour);
    const sum = { note, fromNs, toNs: fromNs + HOUR_NS, firstNs: atNs, lastNs: atNs };
    this.#sums.set(key, sum);
    return sum;
  }
}

function emptyNote(namespace: string, service: string, hour: number): CoverageNote {
  return {
    namespace,
    service,
    hour,
    spans: 0,
    roots: 0,
    logs: 0,
    stated: 0,
    sampled: 0,
    unsampled: 0,
    children: 0,
    missingLocal: 0,
    missingRemote: 0,
    firstMs: 0,
    lastMs: 0,
    probabilityMin: 0,
    probabilityMax: 0,
  };
}
