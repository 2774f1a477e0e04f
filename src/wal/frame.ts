import { AppError } from '../core/errors.ts';
import type { FrameNote, Signal } from '../core/evidence.ts';
import type { SpanRows } from '../core/span-rows.ts';
import { ENTRY_HEAD_BYTES, type FramePosition, type RawEntry, sealEntry } from './segment-format.ts';

/**
 * The body of a WAL entry; its kind is the signal, its time the receive time.
 *
 * | at | bytes |
 * |---|---|
 * | note length | 2, or 65535 in them and the length in 4 more |
 * | note: JSON of the FrameNote without the receive time | as said |
 * | payload: the protobuf Export…ServiceRequest as sent, secrets overwritten | the rest |
 */
export interface Frame {
  readonly signal: Signal;
  readonly note: FrameNote;
  /** Belongs to the log from the append on: must not be changed any more. */
  readonly payload: Buffer;
  /** Spans or log records that count as accepted; in memory only. Who scans a frame that comes without tells it here. */
  items?: number;
  /** What a walk found in a payload of spans; in memory only, absent where nobody walked through it yet. */
  spans?: SpanRows;
}

export interface StoredFrame extends Frame {
  readonly position: FramePosition;
  /** Bytes on disk. */
  readonly length: number;
}

/** Larger frames would not fit a segment's 32-bit offsets with room to spare. */
const FRAME_BYTES_MAX = 2 ** 30;

const NOTE_LENGTH_BYTES = 2;
const LONG_NOTE = 0xffff;
const LONG_NOTE_LENGTH_BYTES = 6;

/** Admission keeps what it finds far below. */
const NOTE_BYTES_MAX = 2 ** 26;

/** Notes differ by sender and peer only, so a few encodings serve nearly all frames. */
const NOTES_CACHED_MAX = 1024;

const SIGNAL_KIND: Readonly<Record<Signal, number>> = { traces: 1, logs: 2, metrics: 3 };
const KIND_SIGNAL: ReadonlyMap<number, Signal> = new Map([
  [1, 'traces'],
  [2, 'logs'],
  [3, 'metrics'],
]);

/** What the note says on disk. The entry has a time of its own; `firstReceivedNs` (decimal) is there when the frame came before it. */
type NoteText = Omit<FrameNote, 'receivedNs'> & { readonly firstReceivedNs?: string };

/** Turns frames into entries. One for each log: it remembers encoded notes. */
export class FrameEncoder {
  readonly #notes = new Map<string, Buffer>();
  /** The note that was encoded last without anything found, and its bytes. */
  #last: { readonly note: FrameNote; readonly bytes: Buffer } | undefined;

  /** Head and note in one buffer; the payload follows it on disk. `timeNs` is when it is appended, if that is not when it came. */
  encode(frame: Frame, timeNs = frame.note.receivedNs): Buffer {
    const { receivedNs } = frame.note;
    const note =
      timeNs === receivedNs
        ? this.#encodeNote(frame.note)
        : noteBytes(noteText(frame.note, { firstReceivedNs: receivedNs.toString() }));
    const lengthBytes = note.length < LONG_NOTE ? NOTE_LENGTH_BYTES : LONG_NOTE_LENGTH_BYTES;
    const head = Buffer.allocUnsafe(ENTRY_HEAD_BYTES + lengthBytes + note.length);
    if (head.length + frame.payload.length > FRAME_BYTES_MAX) {
      throw new AppError('too_large', `a frame has at most ${FRAME_BYTES_MAX} bytes`);
    }
    head.writeUInt16LE(Math.min(note.length, LONG_NOTE), ENTRY_HEAD_BYTES);
    if (lengthBytes > NOTE_LENGTH_BYTES) head.writeUInt32LE(note.length, ENTRY_HEAD_BYTES + NOTE_LENGTH_BYTES);
    note.copy(head, ENTRY_HEAD_BYTES + lengthBytes);
    sealEntry(head, SIGNAL_KIND[frame.signal], timeNs, frame.payload);
    return head;
  }

  #encodeNote(from: FrameNote): Buffer {
    if (this.#last && saysSame(this.#last.note, from)) return this.#last.bytes;
    const text = noteText(from);
    // What was found in a request is of that request alone.
    if (from.sessions || Object.keys(from.tokens ?? {}).length > 0) return noteBytes(text);
    const bytes = this.#notes.get(text) ?? noteBytes(text);
    if (this.#notes.size >= NOTES_CACHED_MAX) this.#notes.clear();
    this.#notes.set(text, bytes);
    if (from.tokens === undefined) this.#last = { note: from, bytes };
    return bytes;
  }
}

/** Of two notes of which the first has nothing that was found. */
function saysSame(a: FrameNote, b: FrameNote): boolean {
  if (b.tokens !== undefined || b.sessions !== undefined) return false;
  const isSender = a.sender === b.sender && a.peer === b.peer && a.namespace === b.namespace;
  return isSender && a.trusted === b.trusted && a.vouches === b.vouches;
}

function noteText(
  { namespace, sender, trusted, vouches, peer, tokens, sessions }: FrameNote,
  more: Pick<NoteText, 'firstReceivedNs'> = {},
): string {
  const found = { ...(tokens && { tokens }), ...(sessions && { sessions }) };
  return JSON.stringify({ namespace, sender, trusted, vouches, peer, ...found, ...more } satisfies NoteText);
}

function noteBytes(text: string): Buffer {
  const note = Buffer.from(text);
  if (note.length > NOTE_BYTES_MAX) {
    throw new AppError('too_large', `the note of a frame has at most ${NOTE_BYTES_MAX} bytes`);
  }
  return note;
}

/** Throws AppError `storage` for an entry that has a right checksum and yet is no frame. */
export function decodeFrame(entry: RawEntry): StoredFrame {
  const { body, position } = entry;
  const signal = KIND_SIGNAL.get(entry.kind);
  const short = body.length < NOTE_LENGTH_BYTES ? 0 : body.readUInt16LE(0);
  const isLong = short === LONG_NOTE && body.length >= LONG_NOTE_LENGTH_BYTES;
  const noteStart = isLong ? LONG_NOTE_LENGTH_BYTES : NOTE_LENGTH_BYTES;
  const noteEnd = noteStart + (isLong ? body.readUInt32LE(NOTE_LENGTH_BYTES) : short);
  if (!signal || noteEnd > body.length) {
    throw new AppError('storage', `segment ${position.segment} at ${position.offset} holds no frame`);
  }
  const { firstReceivedNs, ...note } = noteOf(body.subarray(noteStart, noteEnd));
  return {
    signal,
    note: { receivedNs: firstReceivedNs === undefined ? entry.timeNs : BigInt(firstReceivedNs), ...note },
    payload: body.subarray(noteEnd),
    position,
    length: entry.length,
  };
}

/** The note that was decoded last: neighbours come from one sender. */
let lastNote: { readonly bytes: Buffer; readonly note: NoteText } | undefined;
/** Longer ones hold what was found in one request. */
const LAST_NOTE_BYTES_MAX = 512;

/** Checked by the checksum: these bytes are what encode() wrote. */
function noteOf(bytes: Buffer): NoteText {
  if (lastNote?.bytes.equals(bytes)) return lastNote.note;
  const note: NoteText = JSON.parse(bytes.toString());
  const isPlain = note.tokens === undefined && note.sessions === undefined;
  if (isPlain && bytes.length <= LAST_NOTE_BYTES_MAX) lastNote = { bytes: Buffer.from(bytes), note };
  return note;
}
