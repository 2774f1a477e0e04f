import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { documentText } from '../../src/core/document.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { isLate, LATE_NAMES } from '../../src/store/duckdb/late-values.ts';
import { LATE_BARE, LATE_COLUMNS, lettersOf, MESSAGE, rowOf } from '../../src/store/duckdb/rows.ts';
import { BARE_FIELDS, COLUMN_FIELDS, sqlType } from '../../src/store/duckdb/schema.ts';
import { makeRecord, type Overrides, toWrite } from '../fixtures/records.ts';

/** As a settle from a form gives it: bytes, and an object that stands for all that the record shares with others. */
function formed(record: AuditRecord, form: object): RecordWrite {
  return { ...toWrite(record), form, json: () => Buffer.from(documentText(record)) };
}

/** What the columns hold, late values in their places. */
function columnsOf(write: RecordWrite) {
  const { shared, late, document } = rowOf(write);
  const bare = [...shared.bare, ...LATE_BARE.flatMap((place) => late[place] ?? [])];
  const message = late[MESSAGE];
  const columns = COLUMN_FIELDS.map((_, at) => {
    const place = LATE_COLUMNS[at] ?? -1;
    return place === -1 ? shared.columns[at] : late[place];
  });
  return { columns, bare: bare.sort(), letters: message && lettersOf(String(message)), document: String(document) };
}

function recordOf(number: number, shared: Overrides<AuditRecord> = {}): AuditRecord {
  const id = number.toString(16).padStart(16, '0');
  const record = makeRecord({
    '@timestamp': `2026-11-22T10:00:0${number % 10}.00000000${number % 7}Z`,
    event: { id: `${id}${id}`, duration: number * 1_000_001 },
    trace: { id: `${id}${id}` },
    span: { id },
    ...shared,
    audit: {
      entry_id: `${id}${id}`,
      trace: {
        root: { service: 'shop', name: 'GET "/orders"' },
        duration: number * 7,
        span_count: 3,
        error_count: 0,
        services: ['shop'],
      },
      ...shared.audit,
    },
  } as Overrides<AuditRecord>);
  record.message = `${shared.message ?? 'alice read shop.orders'}, ${number} ms`;
  return record;
}

describe('rows of records', () => {
  it('has a way to read every late field that a column rests on', () => {
    for (const { name } of [...COLUMN_FIELDS, ...BARE_FIELDS]) {
      if (isLate(name)) expect(LATE_NAMES).toContain(name);
    }
  });

  it('knows how to write every column: texts, lists of texts, whole numbers, truths', () => {
    for (const field of COLUMN_FIELDS) {
      expect(field.many ? ['VARCHAR'] : ['VARCHAR', 'BIGINT', 'BOOLEAN']).toContain(sqlType(field));
    }
  });

  it('are the same from the bytes of a form as from the record', () => {
    const texts = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 20 }),
      fc.constantFrom('\\', '"', 'say "trace":{"id":"x', '","duration":7', 'naïve Ω 𝒜\n', '\ud83d'),
    );
    const numbers = fc.array(fc.integer({ min: 1, max: 2 ** 40 }), { minLength: 2, maxLength: 4 });
    fc.assert(
      fc.property(texts, texts, numbers, (user, message, [...all]) => {
        const form = {};
        for (const number of all) {
          const record = recordOf(number, { user: { id: user }, message });
          const text = documentText(record);
          expect(columnsOf(formed(record, form))).toEqual(columnsOf(toWrite(JSON.parse(text) as AuditRecord)));
        }
      }),
      { numRuns: 200 },
    );
  });

  it('are read out of the record where the bytes have late values elsewhere', () => {
    const form = {};
    for (const number of [1, 2]) {
      const { message, ...rest } = recordOf(number);
      // Behind all else, where no mark is looked for any more.
      const record = { ...rest, message } as AuditRecord;
      expect(columnsOf(formed(record, form))).toEqual(columnsOf(toWrite(record)));
    }
  });

  it('leave out what a record does not have', () => {
    const {
      trace: _,
      span: __,
      ...record
    } = recordOf(3, { audit: { trace: undefined, entry_id: undefined } as never });
    const write = formed(record as AuditRecord, {});
    expect(columnsOf(write)).toEqual(columnsOf(toWrite(record as AuditRecord)));
  });
});
