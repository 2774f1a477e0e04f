import { expect, it } from 'vitest';
import { NullStore } from '../../src/store/null.ts';
import { formedWrites } from '../fixtures/formed.ts';
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

it('writes ranks of any length, also one behind the other', async () => {
  const store = new NullStore();
  const ranks = [0n, 7n, 999_999n, 1_000_000n, 1_000_001n, 2n ** 32n, 10n ** 12n, 10n ** 18n + 5n, 2n ** 63n - 1n, 7n];
  const record = makeRecord();
  const index = `{"index":{"_index":"spantrail-audit-default-2026.11.22","_id":"${record.event.id}","version":`;
  const lines = ranks.map((rank) => `${index}${rank},"version_type":"external_gte"}}\n${JSON.stringify(record)}\n`);
  for (const rank of ranks) {
    await store.write([toWrite(record, { rank })]);
    await new NullStore().write([toWrite(record, { rank: 8n })]);
  }
  const bytes = Buffer.from(lines.join(''));
  expect(store.received).toEqual({ checksum: checksumOf(bytes), bytes: bytes.length });
});

it('sums up what a form gave as it does any other record', async () => {
  const [one, other] = [new NullStore(), new NullStore()];
  const midnightNs = 1_795_392_000_000_000_000n;
  // Around the end of a day, and far from it; ranks that differ in either word.
  const offsets = [-4_294_967_296n, -1n, 0n, 1n, 5_000_000_000n, 5_000_000_001n, 86_400_000_000_000n];
  const plain = offsets.map((offset, at) => ({
    ...toWrite(makeRecord({ event: { id: String(at).repeat(32) } })),
    timestampNs: midnightNs + offset,
    rank: (BigInt(at >> 2) << 32n) | BigInt(at >> 1),
  }));
  const formed = formedWrites(plain);
  await one.write(formed);
  await other.write(plain);
  expect(formed.map(({ id }) => id[0])).toEqual(['0', '1', '2', '3', '4', '5', '6']);
  expect(one.received).toEqual(other.received);
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
