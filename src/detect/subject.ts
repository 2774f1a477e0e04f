import { nsToMs, parseTimestamp } from '../core/clock.ts';
import type { AuditRecord } from '../core/record.ts';
import type { Subject } from './engine.ts';

export function subjectOf(record: AuditRecord): Subject {
  return {
    id: record.event.id,
    trace: record.trace?.id ?? '',
    namespace: record.data_stream.namespace,
    timeMs: toMs(record['@timestamp']),
    ingestedMs: toMs(record.event.ingested),
    isRevision: record.audit.revision > 1,
    source: 'records',
    document: record,
  };
}

/** Of `2026-11-22T10:19:13.000000001Z`, and of that up to the milliseconds. */
const OWN_CHARS = 30;
const MS_CHARS = 23;

/** With what is below a millisecond as a fraction. Records write their times all alike, which is read the short way. */
function toMs(timestamp: string): number {
  if (timestamp.length !== OWN_CHARS) return nsToMs(parseTimestamp(timestamp) ?? 0n);
  return Date.parse(`${timestamp.slice(0, MS_CHARS)}Z`) + Number(timestamp.slice(MS_CHARS, OWN_CHARS - 1)) / 1e6;
}
