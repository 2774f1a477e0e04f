import type { LogRecord, Span } from '../../src/core/evidence.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { JoinShardOptions } from '../../src/join/shard.ts';
import { PayloadReader } from '../../src/otlp/decode.ts';
import { scanLogs, scanTraces } from '../../src/otlp/scan.ts';
import type { Frame } from '../../src/wal/frame.ts';

type Settling = Pick<JoinShardOptions, 'settle' | 'keys' | 'isAccessLog'>;

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
 * reorder any of it. Frames by the name of their place.
 */
export function joinAtOnce(frames: ReadonlyMap<string, Frame>, settling: Settling): ExpectedTrace[] {
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
  for (const { namespace, traceId, spans, logs, records } of traces.values()) {
    const settlement = settling.settle({ namespace, traceId, spans, logs });
    for (const { id, record } of settlement.records) records.set(id, record);
  }
  return [...traces.values(), untraced];
}

/** Without the fields that tell how and when a record came about. */
export function withoutExempt(record: AuditRecord): unknown {
  const { ingested: _ingested, ...event } = record.event;
  const { revision: _revision, revised_at: _at, supersedes: _supersedes, join, ...audit } = record.audit;
  const { reason: _reason, late: _late, ...told } = join;
  const { horizon: _horizon, ...state } = told as typeof told & { horizon?: unknown };
  return { ...record, event, audit: { ...audit, join: state } };
}
