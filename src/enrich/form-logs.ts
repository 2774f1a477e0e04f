import { nsToMs } from '../core/clock.ts';
import { HOUR_MS } from '../core/coverage.ts';
import type { LogRecord } from '../core/evidence.ts';
import { bitsAt, saidBits } from '../core/piece-bits.ts';
import { COLUMN_SPANS_MAX } from '../core/span-columns.ts';
import { noteBits } from './identity.ts';
import type { NoteForm } from './trace-form.ts';

/** The log records of a trace that is settled by its form: they say nothing that a record could tell, and are counted. */
export class FormLogs {
  #logs: readonly LogRecord[] = [];
  readonly #bits = new Int32Array(COLUMN_SPANS_MAX);

  get count(): number {
    return this.#logs.length;
  }

  /** False when one says something, or may be there twice: that is for a whole settle. They are looked at until the next call. */
  look(logs: readonly LogRecord[], isSilent: (log: LogRecord) => boolean): boolean {
    this.#logs = logs;
    for (let at = 0; at < logs.length; at++) {
      const log = logs[at] as LogRecord;
      const { buffer, byteOffset, byteLength } = log.raw;
      const bits = bitsAt(new DataView(buffer, byteOffset, byteLength), 0, byteLength);
      for (let other = 0; other < at; other++) if (this.#bits[other] === bits) return false;
      this.#bits[at] = bits;
      if (!isSilent(log)) return false;
    }
    return true;
  }

  /** Are all of them told of by services that spans of the trace are of, in this hour? Without notes nobody asks. */
  areWithin(notes: readonly NoteForm[], hour: number): boolean {
    if (notes.length === 0) return true;
    return this.#logs.every(
      (log) => timeMs(log) >= hour * HOUR_MS && timeMs(log) < (hour + 1) * HOUR_MS && noteOf(notes, log),
    );
  }

  /** Counts them for the coverage of their services. */
  addTo(notes: readonly NoteForm[]): void {
    for (const log of this.#logs) {
      const note = noteOf(notes, log)?.note;
      if (note === undefined) continue;
      const atMs = timeMs(log);
      note.logs += 1;
      if (atMs < note.firstMs) note.firstMs = atMs;
      if (atMs > note.lastMs) note.lastMs = atMs;
    }
  }

  /** For the rank: the sum of what stands for each. */
  bitsSum(): number {
    let sum = 0;
    for (let at = 0; at < this.#logs.length; at++) {
      sum = (sum + saidBits(this.#bits[at] as number, noteBits((this.#logs[at] as LogRecord).note))) | 0;
    }
    return sum;
  }
}

/** As coverage sees it: see coverage/observe.ts. */
function timeMs({ timeNs, observedNs, note }: LogRecord): number {
  return nsToMs(timeNs || observedNs || note.receivedNs);
}

function noteOf(notes: readonly NoteForm[], { resource }: LogRecord): NoteForm | undefined {
  const name = resource.attributes.get('service.name');
  const service = typeof name === 'string' ? name : '';
  return notes.find(({ note }) => note.service === service);
}
