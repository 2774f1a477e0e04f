import type { RecordsAnswer } from '../../src/api/contract.ts';
import { exportOnce, openSession, TRACE_AGE_MS } from './load.ts';
import { buildTraffic, freshen, uniqueValues } from './workload.ts';

/** A probe that is not found after this long counts as lost. */
const GIVE_UP_MS = 120_000;
/** Asked for at once, the oldest first: a query must not become too long. */
const TRACES_ASKED_MAX = 50;

export interface ProbePace {
  readonly everyMs: number;
  /** Between an answer about those that are waited for, and the next question. */
  readonly pollMs: number;
}

export interface ProbeResult {
  /** From the sending of a trace, and from its acknowledgement, until a search finds all its records; milliseconds, ascending. */
  readonly sinceSentMs: readonly number[];
  readonly sinceAcknowledgedMs: readonly number[];
  readonly lost: number;
}

interface Probe {
  readonly traceId: string;
  readonly sentMs: number;
  readonly acknowledgedMs: number;
}

/** Sends single traces beside the load and looks for them until `stop` is called; then waits for the last. */
export function startProbes(port: number, apiUrl: string, pace: ProbePace): { stop(): Promise<ProbeResult> } {
  const { bundles, recordsATrace = 0 } = buildTraffic('orders', 1);
  const [template] = bundles.flat();
  if (template === undefined) throw new Error('there is no traffic');
  const unique = uniqueValues();
  const [sinceSentMs, sinceAcknowledgedMs]: [number[], number[]] = [[], []];
  let waiting: Probe[] = [];
  let lost = 0;
  let stopped = false;

  const send = async (): Promise<void> => {
    const session = await openSession(port);
    const sending: Promise<void>[] = [];
    const sendOne = async () => {
      const id = unique();
      const bytes = Buffer.from(template.bytes);
      freshen(bytes, template, id, Date.now() - TRACE_AGE_MS);
      const traceId = id.toString('hex').padEnd(32, '0');
      const sentMs = performance.now();
      if ((await exportOnce(session, bytes)) === '0')
        waiting.push({ traceId, sentMs, acknowledgedMs: performance.now() });
    };
    while (!stopped) {
      sending.push(sendOne());
      await sleep(pace.everyMs);
    }
    await Promise.all(sending);
    session.close();
  };

  const look = async (): Promise<void> => {
    const asked = waiting.slice(0, TRACES_ASKED_MAX);
    const found = asked.length === 0 ? undefined : await recordsOf(apiUrl, asked, recordsATrace);
    const nowMs = performance.now();
    waiting = waiting.filter(({ traceId, sentMs, acknowledgedMs }) => {
      const isFound = (found?.get(traceId) ?? 0) >= recordsATrace;
      const isLost = !isFound && nowMs - acknowledgedMs > GIVE_UP_MS;
      if (isLost) lost++;
      if (isFound) {
        sinceSentMs.push(nowMs - sentMs);
        sinceAcknowledgedMs.push(nowMs - acknowledgedMs);
      }
      return !isFound && !isLost;
    });
  };

  const sent = send();
  const run = async (): Promise<void> => {
    let isOver = false;
    sent.finally(() => {
      isOver = true;
    });
    while (!isOver || waiting.length > 0) {
      await look();
      await sleep(pace.pollMs);
    }
  };
  const running = run();
  return {
    async stop() {
      stopped = true;
      await Promise.all([sent, running]);
      const ascending = (values: number[]) => values.sort((a, b) => a - b);
      return { sinceSentMs: ascending(sinceSentMs), sinceAcknowledgedMs: ascending(sinceAcknowledgedMs), lost };
    },
  };
}

/** How many records a search finds of each trace; nothing when it fails for now. */
async function recordsOf(apiUrl: string, probes: readonly Probe[], recordsATrace: number) {
  const query = `trace.id: (${probes.map(({ traceId }) => traceId).join(' or ')})`;
  const limit = probes.length * recordsATrace;
  const response = await fetch(`${apiUrl}/api/v1/records?q=${encodeURIComponent(query)}&inner=true&limit=${limit}`);
  const { records = [] } = (await response.json()) as Partial<RecordsAnswer>;
  const counts = new Map<string, number>();
  for (const { trace } of records) if (trace) counts.set(trace.id, (counts.get(trace.id) ?? 0) + 1);
  return counts;
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
