import type { EncodedEntries } from '../../src/wal/encoded-entries.ts';
import { decodeSettle } from '../../src/wal/journal-codec.ts';
import { JOURNAL_KIND, openEntry } from '../../src/wal/segment-format.ts';
import type { JournalEntry } from '../../src/wal/settle-journal.ts';

/** The entries of a batch, as the journal gives them back. */
export function entriesOf({ bytes, starts }: EncodedEntries): JournalEntry[] {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return [...starts].map((start, index) => {
    const entry = openEntry(all.subarray(start, starts[index + 1]), JOURNAL_KIND, { segment: 1, offset: start });
    if (entry === undefined) throw new Error('an entry of the batch is damaged');
    return decodeSettle(entry.body, Number(entry.timeNs / 1_000_000n));
  });
}
