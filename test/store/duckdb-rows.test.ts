import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { documentText } from '../../src/core/document.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { recordsChunk } from '../../src/store/duckdb/chunks.ts';
import { isLate, LATE_NAMES } from '../../src/store/duckdb/late-values.ts';
import { BARE_FIELDS, COLUMN_FIELDS, sqlType } from '../../src/store/duckdb/schema.ts';
import { makeRecord, type Overrides, toWrite } from '../fixtures/records.ts';

/** As a settle from a form gives it: bytes, and an object that stands for all that the record shares with others. */
function formed(record: AuditRecord, form: object): RecordWrite {
  return { ...toWrite(record), form, json: () => Buffer.from(documentText(record)) };
}

/** What DuckDB gets. */
function rowsOf(...writes: RecordWrite[]) {
  return recordsChunk(writes).getRows();
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
    // Records of one length, as forms have them, and others.
    const numbers = [fc.integer({ min: 100, max: 999 }), fc.integer({ min: 1, max: 2 ** 40 })].map((number) =>
      fc.array(number, { minLength: 2, maxLength: 4 }),
    );
    fc.assert(
      fc.property(texts, texts, fc.oneof(...numbers), (user, message, all) => {
        const form = {};
        const records = all.map((number) => recordOf(number, { user: { id: user, roles: [user, 'nurse'] }, message }));
        const plain = records.map((record) => toWrite(JSON.parse(documentText(record)) as AuditRecord));
        expect(rowsOf(...records.map((record) => formed(record, form)))).toEqual(rowsOf(...plain));
      }),
      { numRuns: 100 },
    );
  });

  it('are those of their own forms, side by side with records that have none', () => {
    const forms = new Map<string, object>();
    const writes = Array.from({ length: 700 }, (_, at) => {
      const user = ['zoë', 'a'.repeat(at % 40), `person-${at % 7}`, ''][at % 4] ?? '';
      const said = { ...(user !== '' && { user: { id: user } }), audit: { entry: at % 2 === 0 } };
      const record = recordOf(at + 1, said as Overrides<AuditRecord>);
      const form = forms.get(JSON.stringify(said)) ?? {};
      forms.set(JSON.stringify(said), form);
      return { plain: toWrite(record), formed: at % 5 === 0 ? toWrite(record) : formed(record, form) };
    });
    const rows = rowsOf(...writes.map(({ formed: write }) => write));
    expect(rows).toEqual(rowsOf(...writes.map(({ plain }) => plain)));
    expect(rows.map(([id]) => id)).toEqual(writes.map(({ plain }) => plain.id));
  });

  it('are read out of the record where the bytes have late values elsewhere', () => {
    const form = {};
    for (const number of [1, 2]) {
      const { message, ...rest } = recordOf(number);
      // Behind all else, where no mark is looked for any more.
      const record = { ...rest, message } as AuditRecord;
      expect(rowsOf(formed(record, form))).toEqual(rowsOf(toWrite(record)));
    }
  });

  it('leave out what a record does not have', () => {
    const {
      trace: _,
      span: __,
      ...record
    } = recordOf(3, { audit: { trace: undefined, entry_id: undefined } as never });
    const write = formed(record as AuditRecord, {});
    expect(rowsOf(write)).toEqual(rowsOf(toWrite(record as AuditRecord)));
  });
});
