import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { spanRecordId } from '../../src/enrich/identity.ts';
import { encodeTraces, type TestSpan } from '../otlp/encode.ts';
import type { House } from './house.ts';

const TRACES_A_REQUEST = 10;
const NANOS = 1_000_000n;
const ATTEMPT_WAIT_MS = 200;
/** Parts of traces follow their roots by up to this, so that some of them meet another routing. */
const LATE_MS_MAX = 4_000;

export interface LoadCounts {
  /** Spans and events in all requests, repeated ones included. */
  readonly sent: { readonly spans: number; readonly events: number };
  readonly acknowledged: { readonly spans: number; readonly events: number };
}

/** What was acknowledged must come to: by the record's id or, of events without a span, by what they are about. */
export interface Expected {
  /** Record ids of spans, and of events that are tied to one. */
  readonly ids: ReadonlySet<string>;
  /** Targets of events that have a trace and no span. */
  readonly targets: ReadonlySet<string>;
  /** Record ids of spans whose record an event must have become. */
  readonly tied: ReadonlySet<string>;
  /** When the parts of each trace were acknowledged, milliseconds of performance.now(). */
  readonly parts: ReadonlyMap<string, readonly number[]>;
}

/**
 * Traces of a request and two statements, the second of which comes later, through the Collector; and for each third of them an
 * event that comes directly to any of the instances that run. What is not acknowledged is sent again until it is.
 */
export class Load {
  readonly #house: House;
  readonly #sent = { spans: 0, events: 0 };
  readonly #acknowledged = { spans: 0, events: 0 };
  readonly #ids = new Set<string>();
  readonly #targets = new Set<string>();
  readonly #tied = new Set<string>();
  readonly #parts = new Map<string, number[]>();
  readonly #under = new Set<Promise<void>>();
  #traces = 0;
  #isOn = true;
  readonly #running: Promise<void>;

  constructor(house: House, tracesASecond: number) {
    this.#house = house;
    this.#running = this.#run(tracesASecond);
  }

  get counts(): LoadCounts {
    return { sent: this.#sent, acknowledged: this.#acknowledged };
  }

  get expected(): Expected {
    return { ids: this.#ids, targets: this.#targets, tied: this.#tied, parts: this.#parts };
  }

  /** Resolves when all that was begun is acknowledged. */
  async stop(): Promise<void> {
    this.#isOn = false;
    await this.#running;
    while (this.#under.size > 0) await Promise.all(this.#under);
  }

  async #run(tracesASecond: number): Promise<void> {
    const startMs = performance.now();
    while (this.#isOn) {
      this.#begin(this.#visits());
      const dueMs = startMs + (this.#traces / tracesASecond) * 1000;
      await sleep(Math.max(dueMs - performance.now(), 1));
    }
  }

  #begin(visits: readonly Visit[]): void {
    this.#track(
      this.#spans(
        visits,
        visits.flatMap(({ root, first }) => [root, first]),
      ),
    );
    this.#track(
      sleep(Math.random() * LATE_MS_MAX).then(() =>
        this.#spans(
          visits,
          visits.map(({ second }) => second),
        ),
      ),
    );
    for (const [at, visit] of visits.entries()) {
      if (at % 3 !== 0) continue;
      this.#track(sleep(Math.random() * LATE_MS_MAX).then(() => this.#event(visit, at % 2 === 0)));
    }
  }

  #track(work: Promise<void>): void {
    this.#under.add(work);
    void work.finally(() => this.#under.delete(work));
  }

  async #spans(visits: readonly Visit[], spans: readonly TestSpan[]): Promise<void> {
    const body = encodeTraces([{ attributes: { 'service.name': 'charts' }, spans: [...spans] }]);
    for (;;) {
      this.#sent.spans += spans.length;
      if (await post(`${this.#house.collectorUrl}/v1/traces`, 'application/x-protobuf', new Uint8Array(body))) break;
      await sleep(ATTEMPT_WAIT_MS);
    }
    this.#acknowledged.spans += spans.length;
    const { namespace } = this.#house;
    for (const { traceId = '', spanId = '' } of spans) this.#ids.add(spanRecordId(namespace, traceId, spanId));
    for (const visit of visits) this.#note(visit);
  }

  #note({ root: { traceId = '' } }: Visit): void {
    this.#parts.set(traceId, [...(this.#parts.get(traceId) ?? []), performance.now()]);
  }

  async #event(visit: Visit, isTied: boolean): Promise<void> {
    const { root, number } = visit;
    const target = `charts/${number}`;
    const body = JSON.stringify({
      ...{ id: `event-${number}`, actor: { id: `user-${number % 20}` }, action: 'open-chart' },
      ...{ target: { type: 'chart', id: target }, trace_id: root.traceId, ...(isTied && { span_id: root.spanId }) },
      time: new Date(Number((root.startNs ?? 0n) / NANOS)).toISOString(),
    });
    for (;;) {
      this.#sent.events += 1;
      const running = this.#house.doors;
      // Whichever it is: the sender of an event knows nothing of traces' places.
      const any = running[Math.floor(Math.random() * running.length)];
      if (any && (await post(`http://127.0.0.1:${any.http}/v1/access`, 'application/json', body))) break;
      await sleep(ATTEMPT_WAIT_MS);
    }
    this.#acknowledged.events += 1;
    this.#note(visit);
    if (isTied) this.#tied.add(spanRecordId(this.#house.namespace, root.traceId ?? '', root.spanId ?? ''));
    else this.#targets.add(target);
  }

  #visits(): Visit[] {
    return Array.from({ length: TRACES_A_REQUEST }, () => visitOf(this.#traces++));
  }
}

interface Visit {
  readonly number: number;
  readonly root: TestSpan;
  readonly first: TestSpan;
  readonly second: TestSpan;
}

function visitOf(number: number): Visit {
  const hex = (bytes: number) => randomBytes(bytes).toString('hex');
  const [traceId, rootId] = [hex(16), hex(8)];
  const startNs = BigInt(Date.now()) * NANOS;
  const statement = (at: bigint): TestSpan => ({
    ...{ traceId, spanId: hex(8), parentSpanId: rootId, name: 'SELECT charts', kind: 3 },
    ...{ startNs: startNs + at * NANOS, endNs: startNs + (at + 4n) * NANOS },
    attributes: { 'db.system.name': 'postgresql', 'db.namespace': 'clinic', 'db.query.text': 'SELECT * FROM charts' },
  });
  const root: TestSpan = {
    ...{ traceId, spanId: rootId, name: 'GET /charts/{id}', kind: 2, startNs, endNs: startNs + 20n * NANOS },
    attributes: {
      ...{ 'http.request.method': 'GET', 'http.route': '/charts/{id}', 'url.path': `/charts/${number}` },
      ...{ 'http.response.status_code': 200, 'user.id': `user-${number % 20}`, 'client.address': '10.0.0.7' },
    },
  };
  return { number, root, first: statement(2n), second: statement(9n) };
}

async function post(url: string, type: string, body: string | Uint8Array<ArrayBuffer>): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(10_000);
    const response = await fetch(url, { method: 'POST', headers: { 'content-type': type }, body, signal });
    await response.arrayBuffer();
    return response.status === 200;
  } catch {
    // It is away, or was while it answered: nobody knows what it kept.
    return false;
  }
}
