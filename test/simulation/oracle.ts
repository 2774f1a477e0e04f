import { AppError } from '../../src/core/errors.ts';
import type { LogRecord, Span } from '../../src/core/evidence.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { JOIN_DEFAULTS, type JoinSettings } from '../../src/join/settings.ts';
import { JoinShard, type JoinShardOptions } from '../../src/join/shard.ts';
import { PayloadReader } from '../../src/otlp/decode.ts';
import { scanLogs, scanTraces } from '../../src/otlp/scan.ts';
import type { Frame, StoredFrame } from '../../src/wal/frame.ts';
import type { FramePosition } from '../../src/wal/segment-format.ts';

type Settling = Omit<JoinShardOptions, 'settings' | 'readFrame' | 'readJournal' | 'shardIndex' | 'shardCount'>;

/** Frames by the name of their place. */
export type Frames = ReadonlyMap<string, StoredFrame>;

const NOW_MS = 1_800_000_000_000;

/** What is known of one trace, and the records that it must come to. */
export interface ExpectedTrace {
  readonly namespace: string;
  /** Empty for log records that name no trace. */
  readonly traceId: string;
  readonly frames: Set<string>;
  readonly spans: Span[];
  readonly logs: LogRecord[];
  readonly records: Map<string, AuditRecord>;
}

/**
 * A batch join: every trace settled once, from all evidence there is, with nothing in between that could lose, repeat or
 * reorder any of it.
 */
export function joinAtOnce(frames: Frames, settling: Settling, join: JoinSettings): ExpectedTrace[] {
  const traces = new Map<string, ExpectedTrace>();
  const untraced: ExpectedTrace = {
    ...{ namespace: '', traceId: '', frames: new Set(), spans: [], logs: [], records: new Map() },
  };
  const ranks = new Map<string, bigint>();
  const traceOf = (frame: Frame, name: string, traceId: string): ExpectedTrace => {
    const { namespace } = frame.note;
    const key = `${namespace} ${traceId}`;
    const known = traces.get(key) ?? { namespace, traceId, frames: new Set(), spans: [], logs: [], records: new Map() };
    traces.set(key, known);
    known.frames.add(name);
    return known;
  };
  for (const [name, frame] of frames) {
    if (frame.signal === 'metrics') continue;
    const reader = new PayloadReader(frame.payload, frame.signal, frame.note, settling.keys);
    if (frame.signal === 'traces') {
      scanTraces(frame.payload, ({ itemStart }) => {
        const span = reader.span(itemStart);
        traceOf(frame, name, span.traceId).spans.push(span);
      });
      continue;
    }
    scanLogs(frame.payload, ({ itemStart }) => {
      const log = reader.logRecord(itemStart);
      if (log.traceId !== '') traceOf(frame, name, log.traceId).logs.push(log);
      else if (settling.isAccessLog(log)) {
        // Each settles by itself; of several with one id the highest rank stands.
        const { rank, records } = settling.settle({
          ...{ namespace: frame.note.namespace, traceId: '', spans: [], logs: [log] },
        });
        for (const { id, record } of records) {
          if ((ranks.get(id) ?? -1n) >= rank) continue;
          ranks.set(id, rank);
          untraced.records.set(id, { ...record, audit: { ...record.audit, join: { ...record.audit.join } } });
        }
      }
    });
  }
  const isHuge = ({ spans, logs }: ExpectedTrace) => spans.length + logs.length > join.spansMax;
  const huge = [...traces.values()].some(isHuge)
    ? settleHuge(frames, settling, join)
    : new Map<string, AuditRecord[]>();
  for (const [key, trace] of traces) {
    const { namespace, traceId, spans, logs, records } = trace;
    const settled = isHuge(trace)
      ? (huge.get(key) ?? [])
      : settling.settle({ namespace, traceId, spans, logs }).records.map(({ record }) => record);
    for (const record of settled) records.set(record.event.id, record);
  }
  return [...traces.values(), untraced];
}

/** Which pieces of a huge trace count is the join's own choice: a fresh shard makes it, from everything at once. */
function settleHuge(frames: Frames, settling: Settling, join: JoinSettings): Map<string, AuditRecord[]> {
  const found = new Map<string, AuditRecord[]>();
  if (frames.size === 0) return found;
  const shard = new JoinShard({
    ...settling,
    settings: { ...join, indexBytesMax: JOIN_DEFAULTS.indexBytesMax },
    readFrame: (position) => frames.get(nameOf(position)) as StoredFrame,
    readJournal: () => {
      throw new AppError('storage', 'nothing was settled before');
    },
    shardIndex: 0,
    shardCount: 1,
  });
  shard.endReplay(NOW_MS);
  // Backwards: no order of arrival may matter.
  for (const frame of [...frames.values()].reverse()) shard.ingest(frame, NOW_MS);
  shard.flush();
  while (shard.nextDueAtMs(NOW_MS) === NOW_MS) {
    const batch = shard.take(NOW_MS, Number.POSITIVE_INFINITY);
    if (batch === undefined) continue;
    for (const { namespace, traceId, writes } of batch.traces)
      found.set(
        `${namespace} ${traceId}`,
        writes.map(({ record }) => record),
      );
    shard.stored(
      batch.number,
      [...batch.entries.starts].map((_, index) => ({ segment: 1, offset: 32 + index })),
    );
  }
  return found;
}

/** The name of a frame's place. */
export function nameOf({ segment, offset }: FramePosition): string {
  return `${segment}/${offset}`;
}

/** Without the fields that tell how and when a record came about. */
export function withoutExempt(record: AuditRecord): unknown {
  const { ingested: _ingested, ...event } = record.event;
  const { revision: _revision, revised_at: _at, supersedes: _supersedes, join, ...audit } = record.audit;
  const { reason: _reason, late: _late, ...told } = join;
  const { horizon: _horizon, ...state } = told as typeof told & { horizon?: unknown };
  return { ...record, event, audit: { ...audit, join: state } };
}
