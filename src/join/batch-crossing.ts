import { FormedRecord } from '../core/formed-record.ts';
import type { RecordWrite, SettledTrace } from '../core/settlement.ts';
import type { SettledBatch } from './batch.ts';

/** Records by form of one batch, in the order of its traces, as threads hand them over: texts in one piece of memory, the rest in columns. */
interface PackedRecords {
  readonly ids: string[];
  /** Epoch nanoseconds. */
  readonly times: BigInt64Array;
  readonly durations: Float64Array;
  readonly ingestedMs: Float64Array;
  /** Numbers of forms, of the thread that packed. */
  readonly forms: Int32Array;
  /** Where each text ends. */
  readonly ends: Int32Array;
  readonly bytes: ArrayBuffer;
  readonly mayBeElsewhere: Uint8Array;
}

type PackedTrace = Omit<SettledTrace, 'writes'> & {
  /** Those by form as `null`. */
  readonly writes: readonly (RecordWrite | null)[];
};

export interface PackedBatch extends Omit<SettledBatch, 'traces'> {
  readonly traces: readonly PackedTrace[];
  readonly records: PackedRecords;
}

/** Forms that the receiving thread has an object for; with more it begins anew, and what is remembered by them with it. */
const FORMS_KNOWN_MAX = 65_536;

/** Makes batches ready to cross to another thread, where `BatchUnpacker` makes them what they were. */
export class BatchPacker {
  readonly #numbers = new WeakMap<object, number>();
  #last = 0;

  /** `bytes` of the result's records is to be transferred. */
  pack({ traces, ...rest }: SettledBatch): PackedBatch {
    const formed: FormedRecord[] = [];
    const packed = traces.map(({ writes, ...trace }): PackedTrace => {
      return {
        ...trace,
        writes: writes.map((write) => (write instanceof FormedRecord && write.form ? this.#set(formed, write) : write)),
      };
    });
    return { ...rest, traces: packed, records: this.#columns(formed) };
  }

  #set(formed: FormedRecord[], write: FormedRecord): null {
    formed.push(write);
    return null;
  }

  #columns(formed: readonly FormedRecord[]): PackedRecords {
    const count = formed.length;
    const texts = formed.map((record) => record.json());
    const bytes = new Uint8Array(texts.reduce((sum, text) => sum + text.length, 0));
    const ends = new Int32Array(count);
    let end = 0;
    for (const [at, text] of texts.entries()) {
      bytes.set(text, end);
      end += text.length;
      ends[at] = end;
    }
    return {
      ids: formed.map(({ id }) => id),
      times: BigInt64Array.from(formed, ({ timestampNs }) => timestampNs),
      durations: Float64Array.from(formed, ({ durationNs = 0 }) => durationNs),
      ingestedMs: Float64Array.from(formed, ({ ingestedMs = 0 }) => ingestedMs),
      forms: Int32Array.from(formed, ({ form }) => this.#numberOf(form as object)),
      mayBeElsewhere: Uint8Array.from(formed, ({ mayBeElsewhere }) => Number(mayBeElsewhere === true)),
      ends,
      bytes: bytes.buffer,
    };
  }

  #numberOf(form: object): number {
    let number = this.#numbers.get(form);
    if (number === undefined) {
      number = this.#last++;
      this.#numbers.set(form, number);
    }
    return number;
  }
}

/** Takes what one `BatchPacker` of another thread packed. */
export class BatchUnpacker {
  readonly #forms = new Map<number, object>();

  unpack({ traces, records, ...rest }: PackedBatch): SettledBatch {
    const bytes = Buffer.from(records.bytes);
    let at = 0;
    const unpacked = traces.map(({ writes, ...trace }): SettledTrace => {
      return { ...trace, writes: writes.map((write) => write ?? this.#record(trace, records, bytes, at++)) };
    });
    return { ...rest, traces: unpacked };
  }

  #record(trace: Omit<PackedTrace, 'writes'>, records: PackedRecords, bytes: Buffer, at: number): FormedRecord {
    return new FormedRecord({
      id: records.ids[at] ?? '',
      namespace: trace.namespace,
      rank: trace.rank,
      baseNs: records.times[at] ?? 0n,
      offsetNs: 0,
      durationNs: records.durations[at] ?? 0,
      traceId: trace.traceId,
      ingestedMs: records.ingestedMs[at] ?? 0,
      mayBeElsewhere: records.mayBeElsewhere[at] === 1,
      form: this.#formOf(records.forms[at] ?? 0),
      bytes,
      start: at === 0 ? 0 : (records.ends[at - 1] ?? 0),
      end: records.ends[at] ?? 0,
    });
  }

  #formOf(number: number): object {
    let form = this.#forms.get(number);
    if (form === undefined) {
      if (this.#forms.size >= FORMS_KNOWN_MAX) this.#forms.clear();
      form = {};
      this.#forms.set(number, form);
    }
    return form;
  }
}
