import { FormedRecord, RecordChunk } from '../core/formed-record.ts';
import { SETTLE_REASONS } from '../core/record.ts';
import type { FormGaps, RecordWrite, SettledTrace, WriteForm } from '../core/settlement.ts';
import type { JournalPosition } from '../wal/settle-journal.ts';
import type { SettledBatch } from './batch.ts';

/** Ids of traces, in hex. */
const ID_CHARS = 32;

/** Traces of one batch in columns, in their order. */
interface PackedTraces {
  readonly namespaces: readonly string[];
  /** Which of them. */
  readonly namespaceOf: Uint32Array;
  /** ASCII; zeros for a trace without an id. */
  readonly ids: Uint8Array;
  readonly ranks: BigInt64Array;
  readonly revisions: Uint32Array;
  /** Places in SETTLE_REASONS. */
  readonly reasons: Uint8Array;
  /** How many writes each has. */
  readonly writes: Uint32Array;
}

/** The writes of all traces, one after the other. Those by form stay in the memory where they were written. */
interface PackedRecords {
  /** Numbers of forms, of the thread that packed; NOT_FORMED for a write that is among the others. */
  readonly forms: Int32Array;
  readonly others: readonly RecordWrite[];
  /** Of those by form: the piece of memory, and the word at which the record begins there; zeros for others. */
  readonly chunkOf: Uint32Array;
  readonly starts: Uint32Array;
}

export interface PackedBatch extends Omit<SettledBatch, 'traces'> {
  readonly traces: PackedTraces;
  readonly records: PackedRecords;
  /** Where texts of forms differ: of those that are new here, or whose texts have grown. */
  readonly gaps: ReadonlyMap<number, FormGaps>;
  /** To be transferred, and given back when the batch is stored. */
  readonly chunks: readonly ArrayBuffer[];
}

/** What of it crosses without being copied. */
export function transferOf({ chunks, entries }: PackedBatch): readonly ArrayBuffer[] {
  return [...chunks, entries.bytes.buffer as ArrayBuffer];
}

const NOT_FORMED = -1;

/** Forms that the receiving thread has an object for; with more both begin anew, and what is remembered by them with it. */
const FORMS_KNOWN_MAX = 65_536;

function isFirstAgain(number: number): boolean {
  return number > 0 && number % FORMS_KNOWN_MAX === 0;
}

/** Makes batches ready to cross to another thread, where `BatchUnpacker` makes them what they were. */
export class BatchPacker {
  #numbers = new WeakMap<WriteForm, { readonly number: number; gaps: FormGaps | undefined }>();
  #last = 0;

  pack({ traces, entries, ...rest }: SettledBatch): PackedBatch {
    const writes = traces.flatMap((trace) => trace.writes);
    const chunks: Buffer[] = [];
    const gaps = new Map<number, FormGaps>();
    const records = this.#packRecords(writes, chunks, gaps);
    // Without the room behind them.
    const bytes = new Uint8Array(entries.bytes);
    return {
      ...rest,
      entries: { ...entries, bytes },
      traces: packTraces(traces),
      records,
      gaps,
      chunks: chunks.map((chunk) => chunk.buffer as ArrayBuffer),
    };
  }

  /** Adds the memory that they lie in to `chunks`, and what is new of their forms to `gaps`. */
  #packRecords(writes: readonly RecordWrite[], chunks: Buffer[], gaps: Map<number, FormGaps>): PackedRecords {
    const { length } = writes;
    const columns = {
      forms: new Int32Array(length),
      chunkOf: new Uint32Array(length),
      starts: new Uint32Array(length),
    };
    const others: RecordWrite[] = [];
    for (const [at, write] of writes.entries()) {
      // One that was changed has none.
      if (!(write instanceof FormedRecord) || write.form === undefined) {
        columns.forms[at] = NOT_FORMED;
        others.push(write);
        continue;
      }
      const { bytes } = write.chunk;
      columns.forms[at] = this.#numberOf(write.form, gaps);
      if (chunks.at(-1) !== bytes && !chunks.includes(bytes)) chunks.push(bytes);
      columns.chunkOf[at] = chunks.lastIndexOf(bytes);
      columns.starts[at] = write.at;
    }
    return { ...columns, others };
  }

  #numberOf(form: WriteForm, gaps: Map<number, FormGaps>): number {
    let known = this.#numbers.get(form);
    if (known === undefined) {
      if (isFirstAgain(this.#last)) this.#numbers = new WeakMap();
      known = { number: this.#last++, gaps: undefined };
      this.#numbers.set(form, known);
    }
    if (form.gaps !== undefined && known.gaps !== form.gaps) {
      known.gaps = form.gaps;
      gaps.set(known.number, form.gaps);
    }
    return known.number;
  }
}

function packTraces(traces: readonly SettledTrace[]): PackedTraces {
  const count = traces.length;
  const numbers = new Map<string, number>();
  const ids = Buffer.from(new ArrayBuffer(count * ID_CHARS));
  const packed = {
    namespaceOf: new Uint32Array(count),
    ranks: new BigInt64Array(count),
    revisions: new Uint32Array(count),
    reasons: new Uint8Array(count),
    writes: new Uint32Array(count),
  };
  for (const [at, { namespace, traceId, rank, revision, reason, writes }] of traces.entries()) {
    let number = numbers.get(namespace);
    if (number === undefined) {
      number = numbers.size;
      numbers.set(namespace, number);
    }
    packed.namespaceOf[at] = number;
    ids.write(traceId, at * ID_CHARS, 'latin1');
    packed.ranks[at] = rank;
    packed.revisions[at] = revision;
    packed.reasons[at] = SETTLE_REASONS.indexOf(reason);
    packed.writes[at] = writes.length;
  }
  return { ...packed, ids: new Uint8Array(ids.buffer), namespaces: [...numbers.keys()] };
}

/** Takes what one `BatchPacker` of another thread packed. */
export class BatchUnpacker {
  readonly #forms = new Map<number, { gaps?: FormGaps }>();

  unpack({ traces: packed, records, gaps, chunks: memory, ...rest }: PackedBatch): SettledBatch {
    for (const [number, places] of gaps) this.#formOf(number).gaps = places;
    const chunks = memory.map((buffer) => new RecordChunk(buffer));
    const traceIds = Buffer.from(packed.ids.buffer);
    const traces: SettledTrace[] = [];
    let [next, nextOther] = [0, 0];
    for (let at = 0; at < packed.writes.length; at++) {
      const trace = traceOf(packed, traceIds, at);
      const writes: RecordWrite[] = [];
      for (const end = next + (packed.writes[at] as number); next < end; next++) {
        const number = records.forms[next] as number;
        const chunk = chunks[records.chunkOf[next] as number] as RecordChunk;
        writes.push(
          number === NOT_FORMED
            ? (records.others[nextOther++] as RecordWrite)
            : new FormedRecord(chunk, records.starts[next] as number, this.#formOf(number), trace.namespace),
        );
      }
      traces.push({ ...trace, writes });
    }
    return { ...rest, traces };
  }

  #formOf(number: number): { gaps?: FormGaps } {
    let form = this.#forms.get(number);
    if (form === undefined) {
      if (isFirstAgain(number)) this.#forms.clear();
      form = {};
      this.#forms.set(number, form);
    }
    return form;
  }
}

function traceOf(packed: PackedTraces, ids: Buffer, at: number): Omit<SettledTrace, 'writes'> {
  const isNamed = ids[at * ID_CHARS] !== 0;
  return {
    namespace: packed.namespaces[packed.namespaceOf[at] as number] as string,
    traceId: isNamed ? ids.toString('latin1', at * ID_CHARS, (at + 1) * ID_CHARS) : '',
    reason: SETTLE_REASONS[packed.reasons[at] as number] as SettledTrace['reason'],
    rank: packed.ranks[at] as bigint,
    revision: packed.revisions[at] as number,
  };
}

/** Positions in columns: two numbers each. */
export function packPositions(positions: readonly JournalPosition[]): Float64Array {
  const packed = new Float64Array(2 * positions.length);
  for (const [at, { segment, offset }] of positions.entries()) {
    packed[2 * at] = segment;
    packed[2 * at + 1] = offset;
  }
  return packed;
}

export function unpackPositions(packed: Float64Array): JournalPosition[] {
  return Array.from({ length: packed.length / 2 }, (_, at) => {
    return { segment: packed[2 * at] as number, offset: packed[2 * at + 1] as number };
  });
}
