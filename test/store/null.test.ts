import { crc32 } from 'node:zlib';
import { expect, it } from 'vitest';
import { NullStore } from '../../src/store/null.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';

it('sums up the bulk request that Elasticsearch would get', async () => {
  const store = new NullStore();
  const records = [makeRecord(), makeRecord({ event: { id: 'b' } })];
  const lines = records.map((record) => {
    const target = {
      _index: 'spantrail-audit-default-2026.11.22',
      _id: record.event.id,
      version: 3,
      version_type: 'external_gte',
    };
    return `${JSON.stringify({ index: target })}\n${JSON.stringify(record)}\n`;
  });
  for (const record of records) {
    expect(await store.write([toWrite(record, { rank: 3n })])).toEqual({ written: 1, outranked: 0, rejected: [] });
  }
  const bytes = Buffer.from(lines.join(''));
  expect(store.received).toEqual({ checksum: crc32(bytes), bytes: bytes.length });
});
