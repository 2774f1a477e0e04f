import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { AuditRecord } from '../../src/core/record.ts';
import type { RecordWrite, WriteForm } from '../../src/core/settlement.ts';
import { Producer } from './duckdb-records.ts';
import { leaveProcessCore } from './receiver.ts';

/** A batch on its way from the thread that makes it: texts one behind the other. */
interface Made {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly ends: Uint32Array;
  readonly ids: readonly string[];
  readonly timesNs: BigInt64Array;
  /** For each record its form, by number; those that are new follow each other. */
  readonly forms: Uint32Array;
  readonly newForms: readonly WriteForm[];
  /** CPU milliseconds of the thread so far. */
  readonly cpuMs: number;
}

/** Batches that are made ahead: while one is written the next one is there. */
const AHEAD = 2;
/** That of all records; which one it is does not matter. */
const RANK = 8n << 48n;

/** Makes batches of writes on a thread of its own, on another core than this process is pinned to, if there is one. */
export class Maker {
  readonly #worker: Worker;
  readonly #made: Made[] = [];
  readonly #forms: WriteForm[] = [];
  #wake: (() => void) | undefined;
  /** CPU milliseconds that making took so far, which are not the store's. */
  cpuMs = 0;

  constructor(startNs: bigint, stepNs: bigint) {
    this.#worker = new Worker(new URL(import.meta.url), { workerData: { startNs, stepNs } });
    this.#worker.on('message', (made: Made) => {
      this.#made.push(made);
      this.#wake?.();
    });
    for (let batch = 0; batch < AHEAD; batch++) this.#worker.postMessage('make');
  }

  async batch(): Promise<RecordWrite[]> {
    while (this.#made.length === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#worker.postMessage('make');
    const made = this.#made.shift() as Made;
    this.#forms.push(...made.newForms);
    this.cpuMs = made.cpuMs;
    return made.ids.map((_, at) => this.#write(made, at));
  }

  stop(): Promise<number> {
    return this.#worker.terminate();
  }

  #write({ bytes: all, ends, ids, timesNs, forms }: Made, at: number): RecordWrite {
    const start = at === 0 ? 0 : (ends[at - 1] as number);
    const bytes = Buffer.from(all.buffer, start, (ends[at] as number) - start);
    const form = this.#forms[forms[at] as number];
    return {
      id: ids[at] as string,
      namespace: 'default',
      timestampNs: timesNs[at] as bigint,
      rank: RANK,
      form,
      json: () => bytes,
      get record() {
        return JSON.parse(bytes.toString()) as AuditRecord;
      },
    };
  }
}

function makeBatches(startNs: bigint, stepNs: bigint): void {
  const producer = new Producer(startNs, stepNs);
  const numbers = new Map<WriteForm, number>();
  parentPort?.on('message', () => {
    const writes = producer.batch();
    const texts = writes.map(({ json }) => json?.() as Buffer);
    const newForms: WriteForm[] = [];
    const numberOf = (form: WriteForm): number => {
      const known = numbers.get(form) ?? numbers.size;
      if (!numbers.has(form)) newForms.push(form);
      numbers.set(form, known);
      return known;
    };
    let end = 0;
    const bytes = new Uint8Array(texts.reduce((sum, { length }) => sum + length, 0));
    const ends = Uint32Array.from(texts, (text) => {
      bytes.set(text, end);
      end += text.length;
      return end;
    });
    const made: Made = {
      ...{ bytes, ends, newForms, ids: writes.map(({ id }) => id) },
      timesNs: BigInt64Array.from(writes, ({ timestampNs }) => timestampNs),
      forms: Uint32Array.from(writes, ({ form }) => numberOf(form as WriteForm)),
      cpuMs: threadCpuMs(),
    };
    parentPort?.postMessage(made, [bytes.buffer]);
  });
}

function threadCpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

if (!isMainThread) {
  leaveProcessCore();
  makeBatches(workerData.startNs, workerData.stepNs);
}
