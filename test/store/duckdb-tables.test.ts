import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatTimestamp } from '../../src/core/clock.ts';
import { parseQuery } from '../../src/query/parse.ts';
import { query } from '../../src/store/duckdb/reads.ts';
import { COLUMN_FIELDS, keyOf, LANE_TEXT, sqlType } from '../../src/store/duckdb/schema.ts';
import { DuckDbStore } from '../../src/store/duckdb/store.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';

const NEWEST = { field: '@timestamp', direction: 'desc' } as const;
const START_NS = 1_795_341_600_000_000_000n;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spantrail-duckdb-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function openStore(file: string): Promise<DuckDbStore> {
  const store = await DuckDbStore.open({ file, memoryBytes: 500_000_000, threads: 1 });
  await store.setUp();
  return store;
}

async function withFile<T>(file: string, work: (connection: DuckDBConnection) => Promise<T>): Promise<T> {
  const instance = await DuckDBInstance.create(file);
  const connection = await instance.connect();
  try {
    return await work(connection);
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

const record = (number: number) =>
  makeRecord({
    '@timestamp': formatTimestamp(START_NS + BigInt(number) * 1_000_000n),
    event: { id: `id-${number}` },
    user: number % 3 === 0 ? undefined : { id: `user-${number % 7}` },
    container: { id: `box ${number % 5}` },
    audit: { entry: number % 4 === 0 },
  });
const writes = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, number) => toWrite(record(from + number)));
function selected(text: string) {
  const parsed = parseQuery(text, { nowMs: 0 });
  if (!parsed.ok) throw new Error(parsed.message);
  return { query: parsed.query, inner: true };
}

/** What the store answers about records with these numbers. */
async function expectRecords(store: DuckDbStore, count: number): Promise<void> {
  expect(await store.count(selected('*'))).toBe(count);
  const numbers = Array.from({ length: count }, (_, number) => count - 1 - number);
  const page = await store.search(selected('*'), NEWEST, 10_000);
  expect(page.records).toEqual(numbers.map(record));
  for (const [text, fits] of [
    ['user.id: user-4', (number: number) => number % 3 !== 0 && number % 7 === 4],
    ['not user.id: user-4', (number: number) => number % 3 === 0 || number % 7 !== 4],
    ['container.id: "box 2"', (number: number) => number % 5 === 2],
  ] as const) {
    const found = await store.search(selected(text), NEWEST, 10_000);
    expect(found.records.map(({ event }) => event.id)).toEqual(numbers.filter(fits).map((number) => `id-${number}`));
  }
  expect(await store.get('id-1700')).toEqual(record(1700));
}

describe('tables', () => {
  it('give every document back, wherever in its chunk it was written', async () => {
    const store = await openStore(join(folder, 'lanes.duckdb'));
    await store.write(writes(0, 2500));
    await store.write(writes(2500, 3000));
    await expectRecords(store, 3000);
    await store.close();
  });

  it.each([
    [1, asVersion1],
    [2, asVersion2],
  ] as const)('of version %i are read, upgraded and written on', async (version, asVersion) => {
    const file = join(folder, `upgraded-${version}.duckdb`);
    const first = await openStore(file);
    await first.write(writes(0, 2000));
    await first.close();
    await withFile(file, asVersion);
    const store = await openStore(file);
    await expectRecords(store, 2000);
    await store.write(writes(2000, 2600));
    await expectRecords(store, 2600);
    const again = { ...toWrite(record(1700), { rank: 2n }) };
    expect(await store.write([again])).toMatchObject({ written: 1 });
    expect(await store.revisions('id-1700')).toHaveLength(2);
    await store.close();
    const reopened = await openStore(file);
    await expectRecords(reopened, 2600);
    await reopened.close();
  });

  it('have other users below the key of one, and pages of that one without them', async () => {
    const file = join(folder, 'keys.duckdb');
    const first = await openStore(file);
    await first.write(writes(0, 300));
    await first.close();
    // As if the digests of all users began alike.
    await withFile(file, (connection) =>
      connection.run(`UPDATE records SET user_key = ${keyOf('user-4')} WHERE user_key IS NOT NULL`),
    );
    const store = await openStore(file);
    const fits = (number: number) => number % 3 !== 0 && number % 7 === 4;
    const ids = (isEntry: boolean) =>
      Array.from({ length: 300 }, (_, number) => 299 - number)
        .filter((number) => fits(number) && (!isEntry || number % 4 === 0))
        .map((number) => `id-${number}`);
    for (const isEntry of [false, true]) {
      const selection = { ...selected('user.id: user-4'), inner: !isEntry };
      for (const field of ['@timestamp', 'event.id']) {
        const found: string[] = [];
        let cursor: string | undefined;
        do {
          const page = await store.search(selection, { field, direction: 'desc' }, 7, cursor);
          found.push(...page.records.map(({ event }) => event.id));
          cursor = page.next;
        } while (cursor !== undefined);
        expect(found.toSorted()).toEqual(ids(isEntry).toSorted());
        if (field === '@timestamp') expect(found).toEqual(ids(isEntry));
      }
      expect(await store.count(selection)).toBe(ids(isEntry).length);
    }
    for (const [text, count] of [
      ['not user.id: user-4', 300 - ids(false).length],
      ['user.id: user-4 and user.id: user-5', 0],
      ['user.id: user-4 and container.id: "box 2"', ids(false).filter((id) => Number(id.slice(3)) % 5 === 2).length],
    ] as const) {
      expect(await store.count(selected(text))).toBe(count);
      expect((await store.search(selected(text), NEWEST, 300)).records).toHaveLength(count);
    }
    await store.close();
  });

  it.each([
    ['a file of its own has small blocks', undefined, 65_536n],
    ['a file that somebody else made keeps its blocks', '262144', 262_144n],
  ])('are read and written on in either kind of blocks: %s', async (_, made, bytes) => {
    const file = join(folder, `blocks-${bytes}.duckdb`);
    if (made !== undefined) {
      const instance = await DuckDBInstance.create(file, { default_block_size: made });
      instance.closeSync();
    }
    for (const [from, to] of [
      [0, 2000],
      [2000, 2600],
    ] as const) {
      const store = await openStore(file);
      await store.write(writes(from, to));
      await expectRecords(store, to);
      await store.close();
    }
    expect(
      await withFile(file, (connection) => query(connection, 'SELECT block_size FROM pragma_database_size()')),
    ).toEqual([[bytes]]);
  });

  it('are left in their row groups by a checkpoint', async () => {
    const file = join(folder, 'groups.duckdb');
    for (let run = 0; run < 5; run++) {
      const store = await openStore(file);
      await store.write(writes(run * 100, run * 100 + 100));
      await store.close();
    }
    const groups = await withFile(file, (connection) =>
      query(connection, "SELECT count(DISTINCT row_group_id)::INTEGER FROM pragma_storage_info('records')"),
    );
    expect(groups).toEqual([[5]]);
  });
});

/** The tables as version 1 made them, with what is in them. */
async function asVersion1(connection: DuckDBConnection): Promise<void> {
  const fields = COLUMN_FIELDS.map(({ name }) => `"${name}"`).join(', ');
  const columns = COLUMN_FIELDS.map((field) => `"${field.name}" ${sqlType(field)}${field.many ? '[]' : ''}`).join(', ');
  for (const statement of [
    'ALTER TABLE records RENAME TO later',
    `CREATE TABLE records (id VARCHAR NOT NULL, rank BIGINT NOT NULL, "@timestamp" BIGINT NOT NULL, letters VARCHAR,
      bare VARCHAR[], ${columns}, doc VARCHAR NOT NULL USING COMPRESSION zstd)`,
    `INSERT INTO records SELECT id, rank, "@timestamp", letters, bare, ${fields}, ${LANE_TEXT} FROM later`,
    'DROP TABLE later',
    "UPDATE meta SET value = '1' WHERE name = 'tables_version'",
  ]) {
    await connection.run(statement);
  }
}

/** The same of version 2. */
async function asVersion2(connection: DuckDBConnection): Promise<void> {
  for (const statement of [
    'ALTER TABLE records DROP COLUMN form',
    'ALTER TABLE revisions DROP COLUMN form',
    'DROP TABLE forms',
    "UPDATE meta SET value = '2' WHERE name = 'tables_version'",
  ]) {
    await connection.run(statement);
  }
}
