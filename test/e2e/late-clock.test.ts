import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { openStages, type Stages } from '../../src/app/stages.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { DuckDbStore } from '../../src/store/duckdb/store.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { Store } from '../../src/store/port.ts';
import { sleep } from '../bench/probe.ts';
import { encodeLogs } from '../otlp/encode.ts';
import { contentDigest, Oracle } from '../torture/oracle.ts';
import { explicitEvent, makeTrace, type Trace } from './clinic-evidence.ts';

const MINUTE_MS = 60_000;
const TRACES_A_MINUTE = 20;
/** Real time that each minute gets: what was due in it is settled and stored, segments are closed, compressed and dropped. */
const REST_MS = 60;

const folders: string[] = [];
const closings: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closings.splice(0).reverse()) await close();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
const grpc = { transport: 'grpc', peer: '127.0.0.1', browser: false } as const;

/** The pipeline on a real folder, with the clock in the test's hand. */
class Pipeline {
  readonly store: Store;
  readonly #folder: string;
  #nowMs = Date.now();
  #stages: Stages | undefined;

  constructor(folder: string, store: Store) {
    this.#folder = folder;
    this.store = store;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  async start(): Promise<void> {
    const settings = settingsSchema.parse({
      dataDir: this.#folder,
      // So small that nothing of a trace is still in memory when its minute is over.
      wal: { segmentBytes: '64KiB', cacheBytesMax: '64KiB', reserveBytes: 0, horizonAgeMs: '1h' },
    });
    this.#stages = await openStages({
      settings,
      folder: this.#folder,
      clock: { nowMs: () => this.#nowMs },
      store: this.store,
      counters: new Counters(),
      log: silent,
    });
    await this.#stages.startJoining();
  }

  async stop(): Promise<void> {
    await this.#stages?.drain();
    await this.#stages?.close();
    this.#stages = undefined;
  }

  async send(signal: 'traces' | 'logs', payload: Buffer): Promise<void> {
    expect(await this.#stages?.admit(signal, Buffer.from(payload), grpc)).toMatchObject({ kind: 'accepted' });
  }

  /** Lets minutes pass in which others are busy. */
  async pass(minutes: number): Promise<void> {
    for (let minute = 0; minute < minutes; minute++) {
      this.#nowMs += MINUTE_MS;
      for (let number = 0; number < TRACES_A_MINUTE; number++) {
        await this.send('traces', makeTrace(number, this.#nowMs - 1000 + number).payload);
      }
      await sleep(REST_MS);
    }
  }

  async settled(): Promise<void> {
    this.#nowMs += MINUTE_MS;
    await expect
      .poll(async () => (await this.#stages?.state.pump?.refreshStatus())?.evidencePending, { timeout: 60_000 })
      .toBe(0);
  }

  /** The accesses of a trace. */
  async recordsOf({ traceId }: Trace): Promise<AuditRecord[]> {
    const found: AuditRecord[] = [];
    for await (const record of this.store.iterate({ query: { kind: 'all' }, inner: true })) {
      if (record.trace?.id === traceId) found.push(record);
    }
    return found;
  }
}

async function open(storeName: 'memory' | 'duckdb'): Promise<Pipeline> {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-late-'));
  folders.push(folder);
  const store =
    storeName === 'memory'
      ? new MemoryStore()
      : await DuckDbStore.open({ file: join(folder, 'records.duckdb'), memoryBytes: 256 * 1024 ** 2, threads: 1 });
  await store.setUp();
  closings.push(() => store.close());
  const pipeline = new Pipeline(folder, store);
  await pipeline.start();
  closings.push(() => pipeline.stop());
  return pipeline;
}

/** The application's own word for it, which names the request and no span. */
function eventOfTrace({ traceId, startNs }: Trace): Buffer {
  const attributes = { 'user.id': 'alice', 'event.action': 'open-chart', 'audit.target.id': 'patients/7' };
  const log = { traceId, timeNs: startNs, observedNs: startNs, eventName: 'patient.access', attributes };
  return encodeLogs([{ attributes: { 'service.name': 'records' }, logs: [log] }]);
}

/** What all of the evidence together makes, however it came. */
function expectJoined(records: readonly AuditRecord[], trace: Trace): void {
  const oracle = new Oracle('default');
  const shared = { what: 'whole trace', transport: 'grpc', round: 0 } as const;
  oracle.acknowledge({ ...shared, signal: 'traces', payload: trace.payload }, 0);
  oracle.acknowledge({ ...shared, signal: 'logs', payload: explicitEvent(trace) }, 0);
  const digests = new Map(records.map((record) => [record.event.id, contentDigest(record)]));
  expect(digests).toEqual(oracle.records);
}

describe.each(['memory', 'duckdb'] as const)('an access event that comes late, on %s', (storeName) => {
  it('after half an hour yields the complete record, in spite of a restart in between', async () => {
    const pipeline = await open(storeName);
    const trace = makeTrace(7, pipeline.nowMs);
    await pipeline.send('traces', trace.payload);
    await pipeline.pass(15);
    await pipeline.stop();
    await pipeline.start();
    await pipeline.pass(15);
    expect((await pipeline.recordsOf(trace)).map((record) => record.event.action).sort()).toEqual(['GET', 'SELECT']);
    await pipeline.send('logs', explicitEvent(trace));
    await pipeline.settled();
    const records = await pipeline.recordsOf(trace);
    expectJoined(records, trace);
    expect(records.find((record) => record.audit.entry)).toMatchObject({
      event: { action: 'open-chart' },
      audit: { purpose: 'treatment', revision: 2, join: { state: 'complete', spans: 2, late: true, reason: 'late' } },
    });
  });

  it.each([
    ['its trace', eventOfTrace],
    ['its span', explicitEvent],
  ])('after the horizon is a record of its own, which says why it is alone, though it names %s', async (_, late) => {
    const pipeline = await open(storeName);
    const trace = makeTrace(7, pipeline.nowMs);
    await pipeline.send('traces', trace.payload);
    await pipeline.pass(75);
    await pipeline.send('logs', late(trace));
    await pipeline.settled();
    const records = new Map((await pipeline.recordsOf(trace)).map((record) => [record.event.action, record]));
    expect([...records.keys()].sort()).toEqual(['GET', 'SELECT', 'open-chart']);
    expect(records.get('SELECT')?.audit).toMatchObject({ revision: 1, join: { state: 'complete' } });
    expect(records.get('open-chart')?.audit.join).toMatchObject({
      state: 'orphan',
      horizon: expect.stringContaining('began before'),
    });
  });
});
