import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { EVERYTHING } from '../../src/query/ast.ts';
import { DuckDbStore } from '../../src/store/duckdb/store.ts';
import { describeDifferential } from '../conformance/differential.ts';
import { describeStore } from '../conformance/store.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';

const LIMITS = { memoryBytes: 500_000_000, threads: 2 };
const ALL = { query: EVERYTHING, inner: true };

async function open() {
  const folder = await mkdtemp(join(tmpdir(), 'spantrail-duckdb-'));
  const store = await DuckDbStore.open({ file: join(folder, 'new', 'records.duckdb'), ...LIMITS });
  return {
    store,
    dispose: async () => {
      await store.close();
      await rm(folder, { recursive: true });
    },
  };
}

describeStore('duckdb', open);
describeDifferential('duckdb', open);

describe('the database file', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-duckdb-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  async function openFile(file: string): Promise<DuckDbStore> {
    const store = await DuckDbStore.open({ file, ...LIMITS });
    await store.setUp().catch(async (error: unknown) => {
      await store.close();
      throw error;
    });
    return store;
  }

  it('keeps records over a restart and is for its owner only', async () => {
    const file = join(folder, 'kept.duckdb');
    const record = makeRecord();
    const first = await openFile(file);
    await first.write([toWrite(record), toWrite(makeRecord({ event: { id: 'b' } }))]);
    await first.close();
    expect((await stat(file)).mode & 0o077).toBe(0);
    const second = await openFile(file);
    expect(await second.write([toWrite(record, { rank: 2n })])).toMatchObject({ written: 1 });
    expect(await second.get(record.event.id)).toEqual(record);
    expect(await second.revisions(record.event.id)).toHaveLength(2);
    expect(await second.count(ALL)).toBe(2);
    await second.close();
  });

  it('finds what one of the last runs wrote elsewhere, and remembers a bounded number of places', async () => {
    const file = join(folder, 'recent.duckdb');
    const at = (day: number, rank: bigint) =>
      toWrite(makeRecord({ '@timestamp': `2026-11-0${day}T00:00:00Z` }), { rank });
    const other = toWrite(makeRecord({ event: { id: 'other' } }));
    const run = async (work: (store: DuckDbStore) => Promise<unknown>) => {
      const store = await openFile(file);
      await work(store);
      await store.close();
    };
    await run((store) => store.write([at(1, 1n)]));
    // Each run ends before it comes to that record, and writes more than is remembered of one.
    for (let number = 0; number < 2; number++) {
      await run(async (store) => {
        for (let part = 0; part < 6; part++) {
          await store.write(
            Array.from({ length: 5_000 }, (_, item) => ({ ...other, id: `${number} ${part} ${item}` })),
          );
        }
      });
    }
    await run(async (store) => {
      const moved = { ...at(9, 2n), mayBeElsewhere: true as const };
      expect(await store.write([moved, other])).toEqual({ written: 2, outranked: 0, rejected: [] });
      expect(await store.write([{ ...at(5, 1n), mayBeElsewhere: true }])).toMatchObject({ outranked: 1 });
      expect(await store.revisions(moved.id)).toHaveLength(2);
      expect(await store.count(ALL)).toBe(60_002);
    });
    for (let number = 0; number < 20; number++) await run((store) => store.write([{ ...other, id: `run ${number}` }]));
    const instance = await DuckDBInstance.create(file);
    const connection = await instance.connect();
    const kept = await connection.runAndReadAll(
      'SELECT count(*)::INTEGER, count(DISTINCT run)::INTEGER FROM recent_writes',
    );
    expect(kept.getRows()).toEqual([[16, 16]]);
    connection.closeSync();
    instance.closeSync();
  });

  it('has every acknowledged record after its process was killed', async () => {
    const file = join(folder, 'killed.duckdb');
    const child = spawn(process.execPath, [join(import.meta.dirname, 'crash-writer.ts'), file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(child, 'exit');
    let acknowledged = 0;
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged = Number(line);
      if (acknowledged >= 700) child.kill('SIGKILL');
    }
    await exited;
    const store = await openFile(file);
    const count = await store.count(ALL);
    expect(count).toBeGreaterThanOrEqual(acknowledged);
    expect(count % 100).toBe(0);
    await store.close();
  });

  it.each([
    {
      name: 'text',
      make: (file: string) => writeFile(file, 'not a database'.repeat(1000)),
      message: /cannot open the DuckDB file .*: it is no DuckDB file$/,
    },
    {
      name: 'a database of something else',
      make: (file: string) => prepare(file, 'CREATE TABLE cats (name VARCHAR)'),
      message: /is a DuckDB database of something else; name another file$/,
    },
    {
      name: 'a database of a newer version',
      make: (file: string) =>
        prepare(
          file,
          "CREATE TABLE meta (name VARCHAR, value VARCHAR); INSERT INTO meta VALUES ('tables_version', '999')",
        ),
      message: /written by a newer Spantrail \(tables 999, this one knows 3\)/,
    },
  ])('refuses $name in one line', async ({ name, make, message }) => {
    const file = join(folder, `${name}.duckdb`);
    await make(file);
    await expect(openFile(file)).rejects.toMatchObject({ code: 'storage', message: expect.stringMatching(message) });
  });

  it('refuses a file that another process has open', async () => {
    const file = join(folder, 'locked.duckdb');
    const child = spawn(process.execPath, [join(import.meta.dirname, 'crash-writer.ts'), file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(child, 'exit');
    await once(child.stdout, 'data');
    await expect(openFile(file)).rejects.toMatchObject({
      code: 'storage',
      message: expect.stringMatching(/another process has it open$/),
    });
    child.kill('SIGKILL');
    await exited;
  });

  it('opens again for the next read after a fatal error, once everything is closed that had it open', async () => {
    const store = await openFile(join(folder, 'fatal.duckdb'));
    const record = makeRecord();
    await store.write([toWrite(record)]);
    const events: string[] = [];
    const { prototype } = DuckDBConnection;
    vi.spyOn(prototype, 'closeSync').mockImplementation(function closeSync(this: DuckDBConnection) {
      events.push('connection closed');
      this.disconnectSync();
    });
    vi.spyOn(DuckDBInstance, 'create').mockImplementationOnce((...options) => {
      events.push('opened');
      return DuckDBInstance.create(...options);
    });
    const slow = Promise.withResolvers<never>();
    const asked = vi
      .spyOn(prototype, 'runAndReadAll')
      .mockReturnValueOnce(slow.promise)
      .mockRejectedValueOnce(new Error('FATAL Error: database has been invalidated'));
    const underWay = expect(store.count(ALL)).rejects.toMatchObject({ code: 'store_unavailable' });
    await vi.waitFor(() => expect(asked).toHaveBeenCalledTimes(1));
    await expect(store.count(ALL)).rejects.toMatchObject({ code: 'store_unavailable' });
    const again = [
      store.get(record.event.id),
      store.count(ALL),
      store.write([toWrite(makeRecord({ event: { id: 'b' } }))]),
    ];
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(events).toEqual([]);
    slow.reject(new Error('INTERRUPT Error: Interrupted!'));
    await underWay;
    expect(await Promise.all(again)).toMatchObject([record, expect.any(Number), { written: 1 }]);
    // Of the write and of two reads.
    expect(events).toEqual(['connection closed', 'connection closed', 'connection closed', 'opened']);
    expect(await store.count(ALL)).toBe(2);
    vi.restoreAllMocks();
    await store.close();
    await expect(store.get('b')).rejects.toMatchObject({ code: 'store_unavailable' });
  });

  it.each([
    ['TransactionContext Error: Failed to commit: Could not write file "x.wal": No space left on device', true],
    ['IO Error: Cannot open file', true],
    ['Out of Memory Error: failed to allocate data', false],
    ['Conversion Error: Could not convert string "FATAL Error: IO Error" to INT64', false],
  ])('%s: no record is at fault is %s', async (message, retryable) => {
    const store = await openFile(join(folder, 'causes.duckdb'));
    vi.spyOn(DuckDBConnection.prototype, 'createAppender').mockRejectedValueOnce(new Error(message));
    await expect(store.write([toWrite(makeRecord())])).rejects.toMatchObject({ retryable });
    expect(await store.write([toWrite(makeRecord())])).toMatchObject({ written: 1 });
    vi.restoreAllMocks();
    await store.close();
  });

  it('takes the last instant of a BIGINT, which an earlier version wrote, and its revision', async () => {
    const store = await openFile(join(folder, 'last.duckdb'));
    for (const rank of [1n, 2n]) {
      const write = { ...toWrite(makeRecord(), { rank }), timestampNs: 2n ** 63n - 1n };
      expect(await store.write([write])).toEqual({ written: 1, outranked: 0, rejected: [] });
      expect(await store.count(ALL)).toBe(1);
      expect(await store.histogram(ALL, 1000)).toMatchObject([{ count: 1 }]);
    }
    await store.close();
  });

  it('takes text without a UTF-8 form, and a batch after one that failed', async () => {
    const store = await openFile(join(folder, 'odd.duckdb'));
    const odd = makeRecord({ user: { id: 'cut \ud83d', name: '\\ud83d' }, message: '\udc00 alice' });
    await store.write([toWrite(odd)]);
    const kept = await store.get(odd.event.id);
    expect(kept?.user).toEqual({ id: 'cut \ufffd', name: '\\ud83d' });
    const broken = toWrite(makeRecord({ event: { id: 'b' } }), { rank: 2n ** 64n });
    await expect(store.write([toWrite(makeRecord({ event: { id: 'c' } })), broken])).rejects.toMatchObject({
      code: 'internal',
      retryable: false,
    });
    expect(await store.count(ALL)).toBe(1);
    expect(await store.write([toWrite(makeRecord({ event: { id: 'd' } }))])).toMatchObject({ written: 1 });
    expect(await store.count(ALL)).toBe(2);
    await store.close();
  });
});

async function prepare(file: string, sql: string): Promise<void> {
  const instance = await DuckDBInstance.create(file);
  const connection = await instance.connect();
  await connection.run(sql);
  connection.closeSync();
  instance.closeSync();
}
