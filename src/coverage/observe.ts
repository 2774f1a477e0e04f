import { nsToMs } from '../core/clock.ts';
import type { CoverageNote, ObservedEvidence, ObservedTrace } from '../core/coverage.ts';
import { COVERAGE_COUNTS, HOUR_MS } from '../core/coverage.ts';
import { type LogRecord, OWN_SENDER, type Span } from '../core/evidence.ts';
import { hasRemoteParent, isUnsampled, samplingOf } from './sampling.ts';

/** Characters of a service's name that are kept: senders may write anything there, and memory is bounded. */
export const SERVICE_CHARS_MAX = 200;

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
  const notes = new Map<string, CoverageNote>();
  const distinct = distinctSpans(spans);
  for (const span of distinct.values()) {
    const note = noteOf(notes, namespace, span, span.startNs || span.endNs);
    note.spans += 1;
    if (isUnsampled(span)) note.unsampled += 1;
    countSampling(note, span);
    if (span.parentSpanId === '') note.roots += 1;
    else if (isWhole) countParent(note, span, distinct);
  }
  for (const log of logs) {
    // That nobody looks at records for a while is no gap.
    if (log.note.sender !== OWN_SENDER) noteOf(notes, namespace, log, log.timeNs || log.observedNs).logs += 1;
  }
  return notes;
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
  if (span.raw.length !== than.raw.length) return span.raw.length > than.raw.length;
  const order = Buffer.compare(span.raw, than.raw);
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

function noteOf(
  notes: Map<string, CoverageNote>,
  namespace: string,
  piece: Span | LogRecord,
  timeNs: bigint,
): CoverageNote {
  const service = serviceOf(piece);
  // What carries no time at all came when it was received.
  const timeMs = nsToMs(timeNs || piece.note.receivedNs);
  const hour = Math.floor(timeMs / HOUR_MS);
  const key = `${hour} ${service}`;
  let note = notes.get(key);
  if (note === undefined) {
    const counts = { spans: 0, roots: 0, logs: 0, stated: 0, sampled: 0, unsampled: 0 };
    const parents = { children: 0, missingLocal: 0, missingRemote: 0 };
    const range = { firstMs: timeMs, lastMs: timeMs, probabilityMin: 0, probabilityMax: 0 };
    note = { namespace, service, hour, ...counts, ...parents, ...range };
    notes.set(key, note);
  }
  note.firstMs = Math.min(note.firstMs, timeMs);
  note.lastMs = Math.max(note.lastMs, timeMs);
  return note;
}
