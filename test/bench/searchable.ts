import { startElasticsearch } from '../setup/elasticsearch.ts';
import { percentile, runLoad } from './load.ts';
import { type ProbeResult, startProbes } from './probe.ts';
import type { Receiver } from './receiver.ts';
import { keepRow, round } from './results.ts';
import { startSpantrail } from './spantrail.ts';
import { buildTraffic } from './workload.ts';

export const STORES = ['duckdb', 'elasticsearch'] as const;
type StoreName = (typeof STORES)[number];

const LOADS = ['light', 'half'] as const;
type LoadName = (typeof LOADS)[number];

export interface SearchableRow {
  readonly store: StoreName;
  readonly load: LoadName;
  readonly spansPerSecond: number;
  readonly traces: number;
  readonly lost: number;
  readonly sinceSentMs: Times;
  readonly sinceAcknowledgedMs: Times;
}

interface Times {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export interface SearchableOptions {
  readonly seconds: number;
  readonly connections: number;
  readonly slots: number;
  readonly keep: boolean;
  readonly serveArguments: readonly string[];
}

/** Of each load: probes are ten a second. */
export const SEARCHABLE_SECONDS = 60;

const LIGHT_SPANS_PER_SECOND = 2_000;
/** Of the load that finds out what the store takes. */
const CAPACITY_SPANS = 100_000;
/** Requests of a few traces each, so that a load comes evenly. */
const TRACES_A_REQUEST = 8;
const PACE = { everyMs: 100, pollMs: 20 };

/**
 * How soon a complete trace is found: from its one request, as sent and as acknowledged, until the API finds all its records, beside
 * a light load and beside half of what the store takes. Everything is as it is by default, and shares all cores with the load.
 */
export async function runSearchable(name: string, options: SearchableOptions): Promise<void> {
  const store = STORES.find((one) => one === name);
  if (store === undefined) throw new Error(`--searchable is one of ${STORES.join(', ')}, not ${name}`);
  const server = store === 'elasticsearch' ? await startElasticsearch('9.5.0') : undefined;
  if (server && 'skipped' in server) throw new Error(server.skipped);
  try {
    const environment = server && { SPANTRAIL_STORE_ELASTICSEARCH_URLS: JSON.stringify([server.url]) };
    const receiver = await startSpantrail({ ...options, store, cores: '', ...(environment && { environment }) });
    try {
      await measure(store, receiver, options);
    } finally {
      await receiver.stop();
    }
  } finally {
    await server?.stop();
  }
}

async function measure(store: StoreName, receiver: Receiver, options: SearchableOptions): Promise<void> {
  const { connections, slots, seconds, keep } = options;
  const traffic = buildTraffic('orders', TRACES_A_REQUEST);
  const load = { port: receiver.grpcPort, connections, slots, traffic };
  /** What the store takes, spans a second. */
  const capacity = async () => {
    const startedMs = performance.now();
    await runLoad({ ...load, seconds: Number.POSITIVE_INFINITY, spansMax: CAPACITY_SPANS });
    await receiver.untilIdle();
    return (CAPACITY_SPANS / (performance.now() - startedMs)) * 1000;
  };
  // The first is mostly spent on what is compiled late.
  await capacity();
  const rates: Record<LoadName, number> = {
    light: LIGHT_SPANS_PER_SECOND,
    half: Math.round((await capacity()) / 2),
  };
  for (const name of LOADS) {
    const rate = rates[name];
    const probes = startProbes(receiver.grpcPort, receiver.apiUrl ?? '', PACE);
    await runLoad({ ...load, seconds, spansMax: Number.POSITIVE_INFINITY, rate });
    const row = rowOf(store, name, rate, await probes.stop());
    await receiver.untilIdle();
    tell(row);
    if (keep) keepRow<SearchableRow>('searchable', row, (one) => `${one.store} ${one.load}`);
  }
}

function rowOf(store: StoreName, load: LoadName, spansPerSecond: number, result: ProbeResult): SearchableRow {
  const { sinceSentMs, sinceAcknowledgedMs, lost } = result;
  return {
    ...{ store, load, spansPerSecond, traces: sinceSentMs.length, lost },
    sinceSentMs: timesOf(sinceSentMs),
    sinceAcknowledgedMs: timesOf(sinceAcknowledgedMs),
  };
}

function timesOf(ascending: readonly number[]): Times {
  const [p50, p99, max] = [50, 99, 100].map((percent) => Math.round(percentile(ascending, percent)));
  return { p50: round(p50), p99: round(p99), max: round(max) };
}

function tell(row: SearchableRow): void {
  process.stdout.write(`${JSON.stringify(row)}\n`);
  const { p50, p99, max } = row.sinceAcknowledgedMs;
  process.stderr.write(
    `${row.store} at ${row.spansPerSecond} spans/s: found ${p50} ms after the acknowledgement, p99 ${p99}, max ${max} (${row.traces} traces, ${row.lost} lost)\n`,
  );
}
