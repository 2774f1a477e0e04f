import { formatTimestamp, parseTimestamp } from '../../src/core/clock.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import type { ElasticsearchSettings } from '../../src/store/elasticsearch/connection.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';

export const SETTINGS: ElasticsearchSettings = {
  urls: [],
  indexPeriod: 'day',
  replicas: 0,
  refreshIntervalMs: 1000,
  requestTimeoutMs: 60_000,
};

const MIDNIGHT_NS = parseTimestamp('2026-11-23T00:00:00Z') ?? 0n;
export const HOUR_NS = 3_600_000_000_000n;

/** Records numbered from 0, an hour apart around midnight, with these ranks and this shift in time. */
export function hourly(
  namespace: string,
  count: number,
  rank: bigint,
  shiftNs = 0n,
  previousShiftNs?: bigint,
): RecordWrite[] {
  return Array.from({ length: count }, (_, number) => {
    const atNs = MIDNIGHT_NS + BigInt(number - Math.floor(count / 2)) * HOUR_NS;
    const record = makeRecord({
      '@timestamp': formatTimestamp(atNs + shiftNs),
      data_stream: { namespace },
      event: { id: `${namespace}${number}`, duration: (number + 1) * 1_000_000 },
    });
    return toWrite(record, { rank, ...(previousShiftNs !== undefined && { previous: atNs + previousShiftNs }) });
  });
}
