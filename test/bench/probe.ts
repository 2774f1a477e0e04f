import type { RecordsAnswer } from '../../src/api/contract.ts';
import { exportOnce, openSession } from './load.ts';
import { buildTemplate, freshen, uniqueValues } from './workload.ts';

const PROBE_EVERY_MS = 500;
const POLL_EVERY_MS = 50;
/** A probe that is not found after this long counts as lost. */
const GIVE_UP_MS = 120_000;

export interface ProbeResult {
  /** From the acknowledgement of a trace to its records in a search, milliseconds, ascending. */
  readonly searchableMs: readonly number[];
  readonly lost: number;
}

/** Sends a single trace twice a second beside the load and looks for it until `stop` is called; then waits for the last. */
export function startProbes(port: number, apiUrl: string): { stop(): Promise<ProbeResult> } {
  const template = buildTemplate(1);
  const unique = uniqueValues();
  const searchableMs: number[] = [];
  let lost = 0;
  let stopped = false;

  const search = async (traceId: string, ackedMs: number): Promise<void> => {
    const url = `${apiUrl}/api/v1/records?q=${encodeURIComponent(`trace.id: ${traceId}`)}&limit=1`;
    while (performance.now() - ackedMs < GIVE_UP_MS) {
      const response = await fetch(url);
      const { records } = (await response.json()) as Partial<RecordsAnswer>;
      if (records && records.length > 0) return void searchableMs.push(performance.now() - ackedMs);
      await sleep(POLL_EVERY_MS);
    }
    lost++;
  };

  const run = async (): Promise<void> => {
    const session = await openSession(port);
    const searches: Promise<void>[] = [];
    while (!stopped) {
      const id = unique();
      const buffer = Buffer.from(template.bytes);
      freshen(buffer, template, id, Date.now());
      const traceId = id.toString('hex').padEnd(32, '0');
      if ((await exportOnce(session, buffer)) === '0') searches.push(search(traceId, performance.now()));
      await sleep(PROBE_EVERY_MS);
    }
    session.close();
    await Promise.all(searches);
  };

  const running = run();
  return {
    async stop() {
      stopped = true;
      await running;
      return { searchableMs: searchableMs.sort((a, b) => a - b), lost };
    },
  };
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
