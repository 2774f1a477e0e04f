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
  expect(store.received).toEqual({ checksum: checksumOf(bytes), bytes: bytes.length });
});

it('sums up as many bytes as there are, by whatever parts they come', async () => {
  const [one, parts] = [new NullStore(), new NullStore()];
  const writes = Array.from({ length: 400 }, (_, at) =>
    toWrite(makeRecord({ event: { id: `id ${at}`, action: 'x'.repeat(at === 200 ? 300_000 : at) } }), { rank: 3n }),
  );
  await one.write(writes);
  for (let at = 0; at < writes.length; at += 7) await parts.write(writes.slice(at, at + 7));
  expect(parts.received).toEqual(one.received);
  expect(one.received.bytes).toBeGreaterThan(600_000);
});

/** Word by word, with zeros behind the last. */
function checksumOf(bytes: Buffer): string {
  const padded = Buffer.concat([bytes, Buffer.alloc(16)]);
  const sums = [0, 0, 0, 0];
  for (let at = 0; at < bytes.length; at += 4) {
    const lane = (at / 4) % 4;
    sums[lane] = Math.imul((sums[lane] ?? 0) ^ padded.readInt32LE(at), 0x9e3779b1);
  }
  // What is missing of the last four words counts as zeros.
  for (let at = Math.ceil(bytes.length / 4); at % 4 !== 0; at++)
    sums[at % 4] = Math.imul(sums[at % 4] ?? 0, 0x9e3779b1);
  return sums.map((sum) => (sum >>> 0).toString(16).padStart(8, '0')).join('');
}
