import { parseTimestamp } from '../core/clock.ts';
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

/** With what is left of the nanoseconds as a fraction. */
function toMs(timestamp: string): number {
  const nanoseconds = parseTimestamp(timestamp) ?? 0n;
  return Number(nanoseconds / 1_000_000n) + Number(nanoseconds % 1_000_000n) / 1e6;
}
