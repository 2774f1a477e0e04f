import { expect } from 'vitest';
import { formatTimestamp, parseTimestamp } from '../../src/core/clock.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import type { Query } from '../../src/query/ast.ts';
import { parseQuery } from '../../src/query/parse.ts';
import type { Selection, Sort, Store, WriteResult } from '../../src/store/port.ts';
import { makeRecord, type Overrides, toWrite } from '../fixtures/records.ts';

export const NOON_NS = parseTimestamp('2026-11-22T12:00:00Z') ?? 0n;
export const SECOND_NS = 1_000_000_000n;
export const DAY_NS = 86_400n * SECOND_NS;
export const BY_TIME: Sort = { field: '@timestamp', direction: 'asc' };

let spaces = 0;

/** One test's namespace in a store that many tests share. Its records are numbered. */
export class Space {
  readonly store: Store;
  readonly namespace: string;
  readonly #prefix: string;

  constructor(store: Store) {
    this.store = store;
    spaces++;
    this.namespace = `space${spaces}`;
    this.#prefix = spaces.toString(16).padStart(8, '0');
  }

  id(number: number): string {
    return `${this.#prefix}${number.toString(16).padStart(24, '0')}`;
  }

  number(record: AuditRecord): number {
    return Number.parseInt(record.event.id.slice(8), 16);
  }

  record(number: number, overrides: Overrides<AuditRecord> = {}, atNs = NOON_NS): AuditRecord {
    return makeRecord({
      '@timestamp': formatTimestamp(atNs),
      data_stream: { namespace: this.namespace },
      ...overrides,
      event: { ...overrides.event, id: this.id(number) },
    });
  }

  async put(writes: readonly RecordWrite[]): Promise<WriteResult> {
    const result = await this.store.write(writes);
    await this.store.refresh();
    return result;
  }

  /** Writes a record for each of these, numbered from 1, `after` nanoseconds after noon. */
  async fill(list: readonly (Overrides<AuditRecord> & { after?: bigint })[]): Promise<void> {
    const writes = list.map(({ after = 0n, ...overrides }, index) =>
      toWrite(this.record(index + 1, overrides, NOON_NS + after)),
    );
    expect(await this.put(writes)).toEqual({ written: list.length, outranked: 0, rejected: [] });
  }

  selection(text = '', more: Partial<Selection> = {}): Selection {
    return { query: parsed(text), namespace: this.namespace, inner: true, ...more };
  }

  /** The numbers of the selected records, in order. */
  async numbers(selection: Selection = this.selection(), sort: Sort = BY_TIME): Promise<number[]> {
    const page = await this.store.search(selection, sort, 100);
    return page.records.map((record) => this.number(record));
  }
}

function parsed(text: string): Query {
  const result = parseQuery(text, { nowMs: 0 });
  if (!result.ok) throw new Error(`${text}: ${result.message}`);
  return result.query;
}

export async function collect(records: AsyncIterable<AuditRecord>): Promise<AuditRecord[]> {
  const list: AuditRecord[] = [];
  for await (const record of records) list.push(record);
  return list;
}
