import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { documentText } from '../../src/core/document.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { RecordWrite, WriteForm } from '../../src/core/settlement.ts';
import { parseQuery } from '../../src/query/parse.ts';
import { query } from '../../src/store/duckdb/reads.ts';
import { DuckDbStore } from '../../src/store/duckdb/store.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';

const OLDEST = { field: '@timestamp', direction: 'asc' } as const;
const GAPS =
  /(?<="(?:id|entry_id)":")[0-9a-f]{16,32}(?=")|(?<=:")2026-11-22T10:00:00\.\d{9}Z|(?<="duration":)\d{7}|(?<=, )[^"]{6,7}(?=",)/g;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spantrail-duckdb-'));
});
afterAll(() => rm(folder, { recursive: true }));
afterEach(() => {
  vi.restoreAllMocks();
});

async function openStore(name: string): Promise<DuckDbStore> {
  const store = await DuckDbStore.open({ file: join(folder, name), memoryBytes: 500_000_000, threads: 1 });
  await store.setUp();
  return store;
}

/** Rows of a statement over the file of a store that is closed. */
async function rowsOf(name: string, sql: string): Promise<string> {
  const instance = await DuckDBInstance.create(join(folder, name));
  const connection = await instance.connect();
  try {
    return JSON.stringify(await query(connection, sql), (_, value: unknown) =>
      typeof value === 'bigint' ? `${value}n` : value,
    );
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

const hex = (number: number, digits: number) => number.toString(16).padStart(digits, '0');

/** Some with the same sender, kind and place; in how long they took a character of two bytes stands where others have two. */
function recordOf(number: number): AuditRecord {
  const [user, isEntry] = [`Zoë ${number % 2}`, number % 3 === 0];
  const took = number % 5 === 0 ? `${100 + number} µs` : `${1000 + number} ms`;
  return makeRecord({
    '@timestamp': `2026-11-22T10:00:00.${String(number).padStart(9, '0')}Z`,
    message: `${user} read "Ω\\shop".orders, ${took}`,
    event: { id: hex(number, 32), duration: 1_000_000 + number },
    user: { id: user },
    trace: { id: hex(number >> 2, 32) },
    span: { id: hex(number, 16) },
    container: { id: `box ${number % 2}` },
    audit: { entry: isEntry, entry_id: isEntry ? hex(number, 32) : hex(1, 32) },
  });
}

/** By form, as a settle gives them: forms are those of one run. */
function formedWith(forms: Map<string, WriteForm>): (record: AuditRecord, rank?: bigint) => RecordWrite {
  return (record, rank = 1n) => {
    const text = documentText(record);
    const bytes = Buffer.from(text);
    const places = [...text.matchAll(GAPS)].flatMap(({ 0: found, index }) => {
      const start = Buffer.byteLength(text.slice(0, index));
      return [start, start + Buffer.byteLength(found)];
    });
    const key = `${bytes.length} ${text.replace(GAPS, '#')}`;
    const form = forms.get(key) ?? { gaps: { size: bytes.length, ranges: Int32Array.from(places) } };
    forms.set(key, form);
    return { ...toWrite(record, { rank }), form, json: () => bytes };
  };
}

const plain = (record: AuditRecord, rank = 1n) => toWrite(record, { rank });
const records = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => recordOf(from + at));

function selected(text: string) {
  const parsed = parseQuery(text, { nowMs: 0 });
  if (!parsed.ok) throw new Error(parsed.message);
  return { query: parsed.query, inner: true };
}

/** All that the store answers about these records. */
async function answers(store: DuckDbStore): Promise<unknown> {
  const found: unknown[] = [];
  for (const text of ['*', 'container.id: "box 1"', 'not container.id: *1', 'user.id: "Zoë 0"', 'message: shop']) {
    const selection = selected(text);
    const first = await store.search(selection, OLDEST, 500);
    found.push(first, first.next && (await store.search(selection, OLDEST, 2000, first.next)));
    found.push(await store.count(selection), await store.histogram(selection, 1000));
  }
  found.push(await store.facets(selected('*'), ['container.id', 'audit.entry_id'], 10));
  found.push(await store.aggregate(selected('container.id: *'), { groupBy: ['container.id'], limit: 5, extent: true }));
  found.push(await store.search(selected('*'), { field: 'container.id', direction: 'desc' }, 50));
  for (const number of [0, 7, 1500]) {
    found.push(
      await store.get(hex(number, 32)),
      await store.trace(hex(number, 32)),
      await store.revisions(hex(number, 32)),
    );
  }
  return found;
}

const COLUMNS = 'SELECT * EXCLUDE (doc, doc1, doc2, doc3, lane, form) FROM records ORDER BY id';

describe('documents by their form', () => {
  it('tell what whole ones do, over a restart and replaced', { timeout: 60_000 }, async () => {
    for (const [name, write] of [
      ['formed.duckdb', formedWith(new Map())],
      ['whole.duckdb', plain],
    ] as const) {
      let store = await openStore(name);
      await store.write(records(0, 1600).map((record) => write(record)));
      await store.close();
      store = await openStore(name);
      // Forms of another run.
      const again = name === 'formed.duckdb' ? formedWith(new Map()) : plain;
      await store.write(records(1600, 2500).map((record) => again(record)));
      for (const rank of [2n, 3n]) await store.write(records(0, 40).map((record) => again(record, rank)));
      await store.close();
    }
    const [formed, whole] = [await openStore('formed.duckdb'), await openStore('whole.duckdb')];
    expect(await answers(formed)).toEqual(await answers(whole));
    expect(await formed.revisions(hex(7, 32))).toHaveLength(3);
    await formed.close();
    await whole.close();
    expect(await rowsOf('formed.duckdb', COLUMNS)).toBe(await rowsOf('whole.duckdb', COLUMNS));
    expect(await rowsOf('formed.duckdb', 'SELECT count(form), count(DISTINCT form) < 10 FROM records')).toBe(
      '[["2500n",true]]',
    );
    const isOnce = 'count(*) < 10 AND count(*) = count(DISTINCT digest) AND count(*) = count(DISTINCT number)';
    expect(await rowsOf('formed.duckdb', `SELECT ${isOnce} FROM forms`)).toBe('[[true]]');
    expect(await rowsOf('whole.duckdb', 'SELECT count(form) FROM records')).toBe('[["0n"]]');
  });

  it('are written whole when they come a few times only, or say something else than their form', async () => {
    const store = await openStore('few.duckdb');
    const write = formedWith(new Map());
    const few = records(0, 6);
    await store.write(few.map((record) => write(record)));
    const lying = new Map<string, WriteForm>();
    const writeLying = formedWith(lying);
    const others = records(100, 400);
    const writes = others.map((record, at) => {
      const given = writeLying(record);
      if (at % 10 !== 9) return given;
      // The same size, but another text between the gaps.
      const text = documentText(record).replace('.orders', '.odders');
      const changed = JSON.parse(text) as AuditRecord;
      return { ...given, record: changed, json: () => Buffer.from(text) };
    });
    await store.write(writes);
    const found = await store.search(selected('*'), OLDEST, 1000);
    expect(found.records).toEqual([...few, ...writes.map(({ record }) => record)]);
    await store.close();
    const whole = "SELECT count(*) FROM records WHERE form IS NULL AND id < '00000000000000000000000000000064'";
    expect(await rowsOf('few.duckdb', whole)).toBe('[["6n"]]');
    expect(await rowsOf('few.duckdb', 'SELECT count(*) FROM records WHERE form IS NULL')).toBe('[["36n"]]');
  });

  it('keep gaps apart that were alike only in the first records', async () => {
    const store = await openStore('alike.duckdb');
    const write = formedWith(new Map());
    // The trace's id is that of the record, until it is not.
    const like = (number: number, traceId: number) => ({ ...recordOf(number * 30), trace: { id: hex(traceId, 32) } });
    const given = [
      Array.from({ length: 20 }, (_, at) => like(at, at * 30)),
      Array.from({ length: 20 }, (_, at) => like(20 + at, 7)),
    ];
    for (const part of given) await store.write(part.map((record) => write(record)));
    expect((await store.search(selected('*'), OLDEST, 100)).records).toEqual(given.flat());
    await store.close();
    expect(await rowsOf('alike.duckdb', 'SELECT count(DISTINCT form) > 1, count(form) > 30 FROM records')).toBe(
      '[[true,true]]',
    );
  });

  it('are not believed to be stored when their transaction failed', async () => {
    const store = await openStore('failed.duckdb');
    const write = formedWith(new Map());
    const run = DuckDBConnection.prototype.run;
    const failing = vi.spyOn(DuckDBConnection.prototype, 'run').mockImplementation(function (
      this: DuckDBConnection,
      sql,
      ...rest
    ) {
      return sql === 'COMMIT' ? Promise.reject(new Error('no room')) : run.call(this, sql, ...rest);
    });
    await expect(store.write(records(0, 60).map((record) => write(record)))).rejects.toThrow();
    failing.mockRestore();
    await store.write(records(0, 60).map((record) => write(record)));
    expect((await store.search(selected('*'), OLDEST, 100)).records).toEqual(records(0, 60));
    await store.close();
    expect(await rowsOf('failed.duckdb', 'SELECT count(form) FROM records')).toBe('[["60n"]]');
    expect(await rowsOf('failed.duckdb', 'SELECT count(*) = count(DISTINCT number) FROM forms')).toBe('[[true]]');
  });
});
