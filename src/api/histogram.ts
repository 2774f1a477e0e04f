import type { FastifyInstance } from 'fastify';
import { formatTimestamp, parseTimestamp } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import { parseDuration } from '../query/text.ts';
import type { Selection } from '../store/port.ts';
import { type HistogramAnswer, histogramQuery } from './contract.ts';
import { checkParameters, toSelection, toSort } from './selection.ts';
import type { ApiDependencies } from './server.ts';

/** Widths to choose from when none is asked for. The last one covers all times that records can have with some 300 buckets. */
const WIDTHS = ['1m', '5m', '15m', '1h', '3h', '12h', '1d', '7d', '30d', '365d'] as const;

/** What a chart has room for. */
const BUCKETS_WANTED = 1_000n;

export function addHistogramRoute(server: FastifyInstance, { store, clock }: ApiDependencies): void {
  server.get('/api/v1/histogram', async (request): Promise<HistogramAnswer> => {
    const parameters = checkParameters(histogramQuery, request.query);
    const selection = toSelection(parameters, clock.nowMs());
    const bucket = parameters.bucket ?? (await fittingWidth(store, selection));
    const bucketMs = Number(widthNs(bucket) / 1_000_000n);
    if (bucketMs < 1) throw new AppError('bad_request', 'bucket: must be at least 1ms');
    const buckets = await store.histogram(selection, bucketMs);
    return {
      bucket,
      buckets: buckets.map(({ startNs, ...counts }) => ({ start: formatTimestamp(startNs), ...counts })),
    };
  });
}

function widthNs(bucket: string): bigint {
  return parseDuration(bucket) ?? 0n;
}

/**
 * The narrowest width that spreads what is there over no more buckets than wanted: a sender whose clock is a year off makes
 * them wide, and nothing fails.
 */
async function fittingWidth(store: ApiDependencies['store'], selection: Selection): Promise<string> {
  const edge = async (direction: 'asc' | 'desc'): Promise<bigint> => {
    const { records } = await store.search(selection, toSort(`@timestamp:${direction}`), 1);
    return parseTimestamp(records[0]?.['@timestamp'] ?? '') ?? 0n;
  };
  const spreadNs = (await edge('desc')) - (await edge('asc'));
  return WIDTHS.find((width) => spreadNs / widthNs(width) < BUCKETS_WANTED) ?? '365d';
}
