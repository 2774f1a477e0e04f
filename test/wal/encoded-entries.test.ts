import { describe, expect, it } from 'vitest';
import { EntriesMemory, EntriesWriter, encodeEntries } from '../../src/wal/encoded-entries.ts';
import { entryOf } from '../fixtures/journal.ts';

const entry = (digit: string) => entryOf({ traceId: digit.repeat(32), settledAtMs: 1_790_000_000_000 });

function written(memory: EntriesMemory, digits: string) {
  const writer = new EntriesWriter(memory);
  for (const digit of digits) writer.add(entry(digit));
  return writer.finish();
}

describe('memory of entries', () => {
  it('is used again once they are in the journal, and not before', () => {
    const memory = new EntriesMemory();
    const first = written(memory, 'abc');
    const second = written(memory, 'd');
    expect(second.bytes.buffer).not.toBe(first.bytes.buffer);
    memory.recycle(first);
    const third = written(memory, 'ef');
    expect(third.bytes.buffer).toBe(first.bytes.buffer);
    expect(third).toEqual(encodeEntries([entry('e'), entry('f')]));
    expect(second).toEqual(encodeEntries([entry('d')]));
  });

  it('is not kept of what went to another thread, nor of very many entries', () => {
    const memory = new EntriesMemory();
    const gone = written(memory, 'a');
    structuredClone(gone.bytes, { transfer: [gone.bytes.buffer as ArrayBuffer] });
    memory.recycle(gone);
    const many = written(memory, 'b'.repeat(4000));
    memory.recycle(many);
    const next = written(memory, 'c');
    expect(next.bytes.buffer).not.toBe(many.bytes.buffer);
    expect(next).toEqual(encodeEntries([entry('c')]));
  });
});
