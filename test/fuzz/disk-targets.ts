import { isDeepStrictEqual } from 'node:util';
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { AppError } from '../../src/core/errors.ts';
import type { Reservation } from '../../src/receive/in-flight.ts';
import { inflate, looksCompressed } from '../../src/receive/inflate.ts';
import type { StoredFrame } from '../../src/wal/frame.ts';
import { StreamedPieces } from '../../src/wal/piece-encoder.ts';
import { Quarantine } from '../../src/wal/quarantine.ts';
import { type JournalEntry, SettleJournal } from '../../src/wal/settle-journal.ts';
import { openFrameReader, Wal } from '../../src/wal/wal.ts';
import { entryOf } from '../fixtures/journal.ts';
import { FOLDER, frameOf } from '../wal/helpers.ts';
import { MemoryDisk } from '../wal/memory-disk.ts';
import { promise, type Target } from './target.ts';

const clock = { nowMs: () => 1_790_000_000_000 };

/** A file of a log as this program writes it, of a raw or of a compressed segment. */
async function writtenLog(isCompressed: boolean): Promise<{ bytes: Buffer; frames: StoredFrame[] }> {
  const disk = new MemoryDisk();
  const wal = await Wal.open({ folder: FOLDER, disk, clock, isCompressed, encoder: new StreamedPieces() });
  const frames: StoredFrame[] = [];
  wal.onDurable((frame) => frames.push(frame));
  for (const [number, bytes] of [40, 0, 200, 7, 90].entries()) await wal.append(frameOf(number, bytes));
  await wal.close();
  return { bytes: disk.bytesOf(`${FOLDER}/0000000001.${isCompressed ? 'walz' : 'wal'}`), frames };
}

const written = await writtenLog(false);
const compressed = await writtenLog(true);
/** A crash leaves it without an index. */
const unfinished = compressed.bytes.subarray(0, -(36 + 24));

/** A damaged segment gives back frames as they were or none, and never ends the program. */
function segmentTarget(name: string, file: string, samples: Buffer[], weight: number): Target {
  const known = new Map(written.frames.map((frame) => [frame.position.offset, frame]));
  return {
    name,
    weight,
    samples,
    async check(input) {
      const disk = new MemoryDisk();
      disk.plant(`${FOLDER}/${file}`, input);
      let wal: Wal;
      try {
        wal = await Wal.open({ folder: FOLDER, disk, clock });
      } catch (thrown) {
        if (!(thrown instanceof AppError)) throw thrown;
        return;
      }
      const { frames } = await wal.replay((frame) => checkFrame(frame, known));
      promise(frames <= known.size, () => `${frames} frames of ${known.size}`);
      const reader = openFrameReader(FOLDER, disk);
      for (const { position } of written.frames) {
        try {
          checkFrame(reader.read(position), known);
        } catch (thrown) {
          if (!(thrown instanceof AppError)) throw thrown;
        }
      }
      reader.close();
      await wal.close();
    },
  };
}

function checkFrame({ position, payload, signal }: StoredFrame, known: ReadonlyMap<number, StoredFrame>): void {
  const was = known.get(position.offset);
  promise(was !== undefined, () => `a frame at ${position.offset} that was never written`);
  promise(was.payload.equals(payload) && was.signal === signal, () => `the frame at ${position.offset} is another one`);
}

const JOURNAL_FOLDER = '/data/journal';
const JOURNAL_FILE = `${JOURNAL_FOLDER}/0000000001.journal`;

async function writtenJournal(): Promise<{ bytes: Buffer; entries: readonly JournalEntry[] }> {
  const disk = new MemoryDisk();
  const journal = await SettleJournal.open({ folder: JOURNAL_FOLDER, disk, clock });
  const record = { id: 'c'.repeat(32), timestampNs: 1_790_000_000_000_000_000n, firstRevision: 1 };
  const piece = { segment: 1, offset: 32, itemStart: 20, isLog: false };
  await journal.append([
    entryOf({ traceId: 'a'.repeat(32), records: [record], pieces: [piece, { ...piece, itemStart: 99, isLog: true }] }),
    entryOf({ traceId: 'b'.repeat(32), revision: 3, rank: 2n ** 62n, pieces: [{ ...piece, segment: 7 }] }),
  ]);
  const entries: JournalEntry[] = [];
  const again = await SettleJournal.open({ folder: JOURNAL_FOLDER, disk, clock });
  await again.replay((entry) => void entries.push(entry));
  return { bytes: disk.bytesOf(JOURNAL_FILE), entries };
}

const journalled = await writtenJournal();

const journal: Target = {
  name: 'journal',
  weight: 2,
  samples: [journalled.bytes],
  async check(input) {
    const disk = new MemoryDisk();
    disk.plant(JOURNAL_FILE, input);
    try {
      const opened = await SettleJournal.open({ folder: JOURNAL_FOLDER, disk, clock });
      await opened.replay((entry) => {
        const isKnown = journalled.entries.some((known) => isDeepStrictEqual(known, entry));
        promise(isKnown, () => `an entry of ${entry.traceId} that was never written`);
      });
      await opened.close();
    } catch (thrown) {
      if (!(thrown instanceof AppError)) throw thrown;
    }
  },
};

const quarantine: Target = {
  name: 'quarantine',
  weight: 1,
  samples: [
    Buffer.from(
      `${[
        '{"spantrail":"quarantine","version":2,"resolved":[{"stage":"store","how":"retried","count":2}]}',
        '{"key":"0123456789abcdef","stage":"store","reason":"r","id":"i","addedAt":"2026-11-22T10:00:00Z","body":{"a":[1]}}',
        '{"key":"0123456789abcdef","stage":"store","reason":"r","id":"i","addedAt":"","resolved":{"how":"dropped","at":"","why":"w"}}',
        '{"stage":"decode","reason":"old","id":"1/2/3","body":[]}',
      ].join('\n')}\n`,
    ),
  ],
  tokens: ['\n', '"', 'null', '{}', '[]', '"body":', '"resolved":', '"version":9', '"__proto__":', '\\u0000', '}\n{'],
  async check(input) {
    const disk = new MemoryDisk();
    disk.plant('/data/quarantine/quarantine.ndjson', input);
    try {
      const opened = await Quarantine.open('/data/quarantine', { disk, clock });
      const { entries } = await opened.page({ limit: 100 });
      promise(entries.length <= input.length, () => `${entries.length} entries`);
      for (const { key } of entries) await opened.get(key);
      await opened.add([{ stage: 'store', reason: 'r', id: 'new', body: { a: 1n } }]);
      const { entries: after } = await opened.page({ limit: 1000 });
      promise(
        after.some(({ id }) => id === 'new'),
        () => 'what was added is not there',
      );
      await opened.close();
    } catch (thrown) {
      if (!(thrown instanceof AppError)) throw thrown;
    }
  },
};

const INFLATED_MAX = 64 * 1024;
const PLAIN = Buffer.from('a request of some bytes '.repeat(40));

/** Takes what there is up to a limit, as a request's share of the memory for requests. */
function reservation(): Reservation {
  let held = 0;
  return {
    expect: () => undefined,
    add(bytes) {
      held += bytes;
      promise(held <= 3 * INFLATED_MAX, () => `${held} bytes held for ${INFLATED_MAX}`);
      return undefined;
    },
    shrinkTo(bytes) {
      held = bytes;
    },
    inTurn: (work) => work(),
    release: () => undefined,
    holdUntil: () => undefined,
  };
}

const inflation: Target = {
  name: 'inflate',
  weight: 2,
  samples: [gzipSync(PLAIN), deflateSync(PLAIN), zstdCompressSync(PLAIN), gzipSync(Buffer.alloc(200_000))],
  async check(input) {
    for (const encoding of ['gzip', 'deflate', 'zstd']) {
      if (!looksCompressed(input, encoding)) continue;
      const result = await inflate(input, encoding, INFLATED_MAX, reservation());
      if (result.kind === 'inflated') {
        promise(result.payload.length <= INFLATED_MAX, () => `${result.payload.length} bytes came out`);
      } else if (result.kind === 'corrupt')
        promise(result.message.length < 500, () => `a message of ${result.message.length}`);
    }
  },
};

export const DISK_TARGETS: readonly Target[] = [
  segmentTarget('segment', '0000000001.wal', [written.bytes], 4),
  segmentTarget('compressed-segment', '0000000001.walz', [compressed.bytes, unfinished], 3),
  journal,
  quarantine,
  inflation,
];
