import { createHash } from 'node:crypto';
import { AppError } from '../../src/core/errors.ts';
import type { Examine, FrameNote, LogRecord, Span, TraceEvidence } from '../../src/core/evidence.ts';
import { SPAN_KIND } from '../../src/core/evidence.ts';
import { bytesOf, type RawBytes } from '../../src/core/raw-bytes.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { EvidenceCounts, FreshCounts, SettledRecord, Settlement } from '../../src/core/settlement.ts';
import { JOIN_DEFAULTS, type JoinSettings } from '../../src/join/settings.ts';
import { JoinShard, type JoinShardOptions } from '../../src/join/shard.ts';
import { compileKeys } from '../../src/otlp/decode.ts';
import type { StoredFrame } from '../../src/wal/frame.ts';
import { type FramePosition, positionKey } from '../../src/wal/segment-format.ts';
import type { JournalEntry, JournalPosition } from '../../src/wal/settle-journal.ts';
import { encodeLogs, encodeTraces, type TestLog, type TestSpan } from '../otlp/encode.ts';
import { entriesOf } from './entries.ts';

/** One item of evidence as tests write it. */
export type Item = { signal: 'traces'; span: TestSpan } | { signal: 'logs'; log: TestLog };

export const keys = compileKeys(['access']);
export const isAccessLog = (log: LogRecord): boolean => log.attributes.has('access');

export function traceIdOf(number: number): string {
  return `f${number.toString(16).padStart(31, '0')}`;
}

export function spanIdOf(number: number): string {
  return `e${number.toString(16).padStart(15, '0')}`;
}

function digest(given: string | RawBytes): string {
  const text = typeof given === 'string' ? given : bytesOf(given);
  return createHash('sha256').update(text).digest('hex');
}

function bareRecord(id: string, message: string, namespace: string): AuditRecord {
  const time = '1970-01-01T00:00:00.000000000Z';
  return {
    '@timestamp': time,
    message,
    data_stream: { namespace },
    event: {
      id,
      action: 'test',
      category: [],
      type: [],
      kind: 'event',
      outcome: 'success',
      start: time,
      end: time,
      created: time,
      ingested: time,
      duration: 0,
    },
    audit: {
      schema_version: 1,
      entry: true,
      actor: { type: 'anonymous', attribution: 'none', verified: false },
      target: { type: 'endpoint', id: 'test' },
      decision: 'none',
      why: { source: 'none' },
      join: { state: 'complete', spans: 0, missing_parents: 0, orphans: 0, reason: 'complete', late: false },
      revision: 1,
      evidence: [],
    },
  };
}

function bestContents(spans: readonly Span[]): Span[] {
  const best = new Map<string, Span>();
  for (const span of spans) {
    const other = best.get(span.spanId);
    const wins =
      other === undefined ||
      span.endNs > other.endNs ||
      (span.endNs === other.endNs && digest(span.raw) > digest(other.raw));
    if (wins) best.set(span.spanId, span);
  }
  return [...best.values()].sort((a, b) => (a.spanId < b.spanId ? -1 : 1));
}

/**
 * A small settle with the properties that the join counts on: a function of the set, a rank over distinct contents, records
 * that change with every piece, and ids that a larger set takes back (an event that is not alone on its span any more).
 */
export function testSettle({ namespace, traceId, spans, logs, beyond }: TraceEvidence): Settlement {
  if (spans.some((span) => span.name === 'poison')) throw new Error('poisoned evidence');
  const distinctLogs = [...new Map(logs.map((log) => [digest(log.raw), log])).entries()].sort(([a], [b]) =>
    a < b ? -1 : 1,
  );
  const best = bestContents(spans);
  const pieces = [...new Set([...spans, ...logs].map((piece) => digest(piece.raw)))].sort();
  const summary = digest(`${best.map((span) => `${span.spanId}${span.name}`)} ${distinctLogs.map(([id]) => id)}`);
  const records = new Map<string, AuditRecord>();
  const superseded = new Map<string, string>();
  for (const span of best) {
    if (span.kind !== SPAN_KIND.server) continue;
    const id = `${traceId}/${span.spanId}`;
    records.set(id, bareRecord(id, `${span.name} of ${summary}`, namespace));
  }
  const events = distinctLogs.filter(([, log]) => log.attributes.has('access'));
  for (const [contentId, log] of events) {
    const ofSpan = `${traceId}/${log.spanId}`;
    const isAlone = events.filter(([, other]) => other.spanId === log.spanId).length === 1;
    if (log.spanId !== '' && isAlone) records.set(ofSpan, bareRecord(ofSpan, `event of ${summary}`, namespace));
    else {
      records.set(contentId, bareRecord(contentId, `event of ${summary}`, namespace));
      if (log.spanId !== '' && !records.has(ofSpan)) superseded.set(ofSpan, contentId);
    }
  }
  const usedSpans = best.filter((span) => span.kind === SPAN_KIND.server).length;
  if (beyond !== undefined && beyond.accesses > 0)
    for (const { audit } of records.values()) audit.join.state = 'partial';
  const bitsSum = pieces.reduce((sum, piece) => (sum + bitsOf(piece)) | 0, beyond?.bitsSum ?? 0);
  const { traces, logs: beyondLogs } = beyond?.counts ?? {};
  const repeats = [...repeatsOf(spans), ...repeatsOf(logs)];
  const spanCounts = countOf(spans.length, usedSpans, repeatsOf(spans).length);
  const logCounts = countOf(logs.length, events.length, repeatsOf(logs).length);
  return {
    rank: (BigInt(pieces.length + (beyond?.pieces ?? 0)) << 32n) | BigInt(bitsSum >>> 0),
    records: [...records].map(([id, record]): SettledRecord => ({ id, timestampNs: 0n, record })),
    superseded,
    counts: {
      used: spanCounts.used + logCounts.used,
      context: spanCounts.context + logCounts.context + (traces?.context ?? 0) + (beyondLogs?.context ?? 0),
      excluded: 0,
      duplicate: repeats.length + (traces?.duplicate ?? 0) + (beyondLogs?.duplicate ?? 0),
    },
    logCounts: {
      ...logCounts,
      context: logCounts.context + (beyondLogs?.context ?? 0),
      duplicate: logCounts.duplicate + (beyondLogs?.duplicate ?? 0),
    },
    repeats,
  };
}

/** All but the first of each content. */
function repeatsOf<Evidence extends Span | LogRecord>(pieces: readonly Evidence[]): Evidence[] {
  const seen = new Set<string>();
  return pieces.filter((piece) => seen.size === seen.add(digest(piece.raw)).size);
}

function countOf(given: number, used: number, duplicate: number): EvidenceCounts {
  return { used, context: given - used - duplicate, excluded: 0, duplicate };
}

export function noteAt(nowMs: number, namespace = 'default'): FrameNote {
  const receivedNs = BigInt(nowMs) * 1_000_000n;
  return { receivedNs, namespace, sender: 'grpc', trusted: true, vouches: false, peer: '10.0.0.1' };
}

export interface WorldOptions {
  /** Instead of `testSettle`. */
  settling?: Pick<JoinShardOptions, keyof typeof testSettling>;
  settings?: Partial<JoinSettings>;
  shardIndex?: number;
  shardCount?: number;
  /** Frames a segment. */
  segmentFrames?: number;
}

function bitsOf(digested: string): number {
  return Number.parseInt(digested.slice(0, 8), 16);
}

/** What `testSettle` would make of one piece. */
export const testExamine: Examine = (piece) => {
  const content = digest(piece.raw);
  const isAccess = 'kind' in piece ? piece.kind === SPAN_KIND.server : isAccessLog(piece);
  const kind = isAccess ? 'access' : 'context';
  return { kind, isTelling: false, digest: content, origin: 0, bits: bitsOf(content), service: undefined };
};

export const testSettling = {
  keys,
  isAccessLog,
  settle: testSettle,
  settleSteps: function* (evidence: TraceEvidence): Generator<void, Settlement> {
    yield;
    return testSettle(evidence);
  },
  examine: testExamine,
};

/** A shard with its write-ahead log, settle journal and store in memory, and time moved by hand. */
export class World {
  nowMs = 1_700_000_000_000;
  readonly frames: StoredFrame[] = [];
  readonly journal: { entry: JournalEntry; position: JournalPosition }[] = [];
  readonly store = new Map<string, { rank: bigint; record: AuditRecord }>();
  /** Batches in the order in which they were stored. */
  readonly batches: NonNullable<ReturnType<JoinShard['take']>>[] = [];
  shard: JoinShard;
  #appended = 0;
  readonly #options: WorldOptions;

  constructor(options: WorldOptions = {}) {
    this.#options = options;
    this.shard = this.newShard();
    this.shard.endReplay(this.nowMs);
  }

  /** Appends frames of spans and of logs with these items and ingests them. */
  send(items: readonly Item[], namespace = 'default'): void {
    const spans = items.flatMap((item) => (item.signal === 'traces' ? [item.span] : []));
    const logs = items.flatMap((item) => (item.signal === 'logs' ? [item.log] : []));
    if (spans.length > 0) this.append('traces', encodeTraces([{ spans }]), namespace);
    if (logs.length > 0) this.append('logs', encodeLogs([{ logs }]), namespace);
  }

  append(signal: StoredFrame['signal'], payload: Buffer, namespace = 'default'): StoredFrame {
    const number = this.#appended++;
    const perSegment = this.#options.segmentFrames ?? 4;
    const position = { segment: 1 + Math.floor(number / perSegment), offset: 32 + (number % perSegment) * 100 };
    const frame = { signal, payload, note: noteAt(this.nowMs, namespace), position, length: payload.length };
    this.frames.push(frame);
    this.shard.ingest(frame, this.nowMs);
    return frame;
  }

  /** Moves time on and stores what is due then. */
  pass(durationMs: number): void {
    this.nowMs += durationMs;
    this.drain();
  }

  drain(recordsMax = 3): void {
    // A huge trace is worked on without giving anything for a while.
    while (this.step(recordsMax, 'none') || this.shard.nextDueAtMs(this.nowMs) === this.nowMs);
  }

  /** One batch through the store and the journal, up to the step after which the process dies. */
  step(recordsMax: number, diesAfter: 'take' | 'write' | 'journal' | 'none'): boolean {
    const batch = this.shard.take(this.nowMs, recordsMax);
    if (batch === undefined) return false;
    if (diesAfter === 'take') return true;
    this.#append(batch.announced);
    for (const { id, rank, record } of batch.traces.flatMap((trace) => trace.writes)) this.#write(id, rank, record);
    for (const { id, rank, by, revision } of batch.superseded) {
      const record = structuredClone(this.store.get(id)?.record);
      if (record === undefined) continue;
      Object.assign(record.audit, { superseded_by: by, revision });
      this.#write(id, rank, record);
    }
    if (diesAfter === 'write') return true;
    const positions = this.#append(entriesOf(batch.entries));
    if (diesAfter === 'journal') return true;
    this.batches.push(batch);
    this.shard.stored(batch.number, positions);
    return true;
  }

  /** What is left after a crash: the write-ahead log, the journal and the store. */
  restart(): void {
    this.beginRestart();
    this.endRestart();
  }

  /** Until the end of the restart, what is sent comes before the replay. */
  beginRestart(): void {
    this.shard = this.newShard();
  }

  /** Replays the journal and the first frames. */
  endRestart(frames = this.frames.length): void {
    for (const { entry, position } of this.journal) this.shard.restore(entry, position);
    for (const frame of this.frames.slice(0, frames)) this.shard.ingest(frame, this.nowMs, true);
    this.shard.endReplay(this.nowMs);
  }

  /** Settles everything, due or not. */
  settleAll(): void {
    for (let round = 0; this.shard.stats(this.nowMs).evidencePending > 0 && round < 100; round++) {
      this.shard.flush();
      this.drain();
    }
  }

  /** The records that a reader sees, without the fields that tell how and when they came about. */
  visible(): Map<string, AuditRecord> {
    const records = [...this.store].filter(([, { record }]) => record.audit.superseded_by === undefined);
    return new Map(records.sort(([a], [b]) => (a < b ? -1 : 1)).map(([id, { record }]) => [id, withoutExempt(record)]));
  }

  /** Evidence of both signals by use, over all batches so far. */
  counted(): FreshCounts {
    const total = { used: 0, context: 0, excluded: 0, duplicate: 0, quarantined: 0 };
    for (const { fresh } of this.batches.map((batch) => batch.entries)) {
      for (const counts of [fresh.traces, fresh.logs])
        for (const use of Object.keys(total) as (keyof typeof total)[]) total[use] += counts[use];
    }
    return total;
  }

  ignored(): number {
    return [...this.shard.stats(this.nowMs).ignored.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Segments before this one are gone; `receivedMs`: when the oldest evidence left was received. */
  dropBefore(segment: number, receivedMs = 0): void {
    this.shard.dropBefore(segment, 0, receivedMs);
  }

  /** `reason` of every settle so far. */
  reasons(): string[] {
    return this.batches.flatMap((batch) => batch.traces.map((trace) => trace.reason));
  }

  #append(entries: readonly JournalEntry[]): JournalPosition[] {
    return entries.map((entry) => {
      const position = { segment: 1, offset: 32 + this.journal.length };
      this.journal.push({ entry: structuredClone(entry), position });
      return position;
    });
  }

  #write(id: string, rank: bigint, record: AuditRecord): void {
    const known = this.store.get(id);
    if (known === undefined || rank > known.rank) this.store.set(id, { rank, record: structuredClone(record) });
  }

  /** A shard that knows nothing yet, with this journal. */
  newShard(readJournal: JoinShardOptions['readJournal'] = (position) => this.#readJournal(position)): JoinShard {
    const options: JoinShardOptions = {
      settings: { ...JOIN_DEFAULTS, ...this.#options.settings },
      ...(this.#options.settling ?? testSettling),
      readFrame: (position) => this.#readFrame(position),
      readJournal,
      shardIndex: this.#options.shardIndex ?? 0,
      shardCount: this.#options.shardCount ?? 1,
    };
    return new JoinShard(options);
  }

  #readFrame(position: FramePosition): StoredFrame {
    const frame = this.frames.find((candidate) => positionKey(candidate.position) === positionKey(position));
    if (frame === undefined) throw new AppError('storage', 'no such frame');
    return frame;
  }

  #readJournal(position: JournalPosition): JournalEntry {
    const found = this.journal.find((line) => positionKey(line.position) === positionKey(position));
    if (found === undefined) throw new AppError('storage', 'no such journal entry');
    return found.entry;
  }
}

function withoutExempt(record: AuditRecord): AuditRecord {
  const copy = structuredClone(record);
  const { revised_at: _at, supersedes: _supersedes, ...audit } = copy.audit;
  const { reason: _reason, late: _late, ...join } = audit.join;
  copy.event.ingested = '';
  return { ...copy, audit: { ...audit, revision: 0, join: { ...join, reason: 'complete', late: false } } };
}
