import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { runLoad } from '../bench/load.ts';
import { sleep } from '../bench/probe.ts';
import { TRACES_A_REQUEST } from '../bench/workload.ts';
import { startElasticsearch } from '../setup/elasticsearch.ts';
import { storedDocuments, untilSettled } from '../torture/check.ts';
import { watchMemory } from '../torture/memory.ts';
import { ApiClient, startVictim, type Victim } from '../torture/process.ts';

/** `SPANTRAIL_OUTAGE_SECONDS=60 SPANTRAIL_OUTAGE_RATE=full` is the long run; the short one is for every day. */
const OUTAGE_SECONDS = Number(process.env['SPANTRAIL_OUTAGE_SECONDS'] ?? 15);
const RATE = process.env['SPANTRAIL_OUTAGE_RATE'] ?? '1500';
/** Before and after the outage, so that the figures of memory mean something. */
const WARM_UP_SECONDS = 8;
const AFTER_SECONDS = 5;
/** Of the bench's traces: two requests received and three statements. */
const ACCESSES_A_TRACE = 5;
/** How much more may be resident during the outage than before: garbage comes and goes by as much. */
const GROWTH_MIB_MAX = 300;

let victim: Victim | undefined;
const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  await victim?.end('SIGKILL');
  for (const cleanUp of cleanUps.splice(0)) await cleanUp();
});

function traceIds(unique: Buffer): string[] {
  return Array.from(
    { length: TRACES_A_REQUEST },
    (_, trace) => unique.toString('hex') + trace.toString(16).padStart(16, '0'),
  );
}

describe('Elasticsearch stopped under load and started again', () => {
  it('costs nothing: every access once, memory flat', { timeout: 1_800_000 }, async (context) => {
    const elasticsearch = await startElasticsearch('9.5.0');
    if ('skipped' in elasticsearch) {
      process.stderr.write(`\nSKIPPED outage: ${elasticsearch.skipped}. To have it: SPANTRAIL_REQUIRE=elasticsearch\n`);
      return context.skip(elasticsearch.skipped);
    }
    cleanUps.push(() => elasticsearch.stop());
    const folder = mkdtempSync(join(tmpdir(), 'spantrail-outage-'));
    cleanUps.push(() => rmSync(folder, { recursive: true, force: true }));
    const namespace = `outage-${randomBytes(4).toString('hex')}`;
    victim = startVictim(['--data-dir', folder, '--elasticsearch-url', elasticsearch.url], {
      SPANTRAIL_NAMESPACE: namespace,
    });
    const ports = await victim.ready;
    const api = new ApiClient(ports);

    const memory = watchMemory(victim.pid);
    const acknowledged: Buffer[] = [];
    const enough = new AbortController();
    const loaded = runLoad({
      port: ports.grpc,
      connections: 4,
      slots: 4,
      seconds: Number.POSITIVE_INFINITY,
      spansMax: Number.POSITIVE_INFINITY,
      rate: RATE === 'full' ? undefined : Number(RATE),
      signal: enough.signal,
      acknowledged: (unique) => void acknowledged.push(unique),
    });
    memory.enter('before');
    await sleep(WARM_UP_SECONDS * 1000);
    await elasticsearch.halt();
    memory.enter('during');
    const before = acknowledged.length;
    await sleep(OUTAGE_SECONDS * 1000);
    const during = acknowledged.length - before;
    expect(during).toBeGreaterThan(0);
    const { store } = await api.pipeline();
    expect(store).toMatchObject({ state: 'retrying', error: expect.stringContaining('Elasticsearch') });
    await elasticsearch.resume();
    memory.enter('after');
    await sleep(AFTER_SECONDS * 1000);
    enough.abort();
    const load = await loaded;
    const { counters } = await untilSettled(api);
    const peaks = memory.stop();
    process.stderr.write(
      `outage of ${OUTAGE_SECONDS} s: ${load.acknowledgedSpans} spans acknowledged (${during * 512} during it), refused ${JSON.stringify(load.refused)}, peaks of resident memory in MiB ${JSON.stringify(peaks)}\n`,
    );

    const missing = new Map<string, number>();
    for (const unique of acknowledged) for (const id of traceIds(unique)) missing.set(id, ACCESSES_A_TRACE);
    const seen = new Set<string>();
    const faults: string[] = [];
    for await (const { id, traceId } of storedDocuments(elasticsearch.url, namespace)) {
      if (seen.has(id)) faults.push(`${id} is there twice`);
      seen.add(id);
      const left = missing.get(traceId);
      if (left === undefined) faults.push(`${id} is of trace ${traceId}, which was not acknowledged`);
      else if (left === 1) missing.delete(traceId);
      else missing.set(traceId, left - 1);
    }
    expect(faults.slice(0, 5)).toEqual([]);
    expect([...missing].slice(0, 5)).toEqual([]);
    expect(seen.size).toBe(acknowledged.length * TRACES_A_REQUEST * ACCESSES_A_TRACE);
    expect(counters.filter(({ name, value }) => name === 'quarantined' && value > 0)).toEqual([]);
    expect(load.refused).toEqual({});
    expect(peaks['during']).toBeLessThan((peaks['before'] ?? 0) + GROWTH_MIB_MAX);
    expect(await victim.end('SIGTERM')).toBe(0);
  });
});
