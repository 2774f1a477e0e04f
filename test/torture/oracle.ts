import { createHash } from 'node:crypto';
import { createSettling } from '../../src/app/settling.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { FrameNote, LogRecord, Span } from '../../src/core/evidence.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { PayloadReader } from '../../src/otlp/decode.ts';
import { compileMask, maskSecrets } from '../../src/otlp/mask.ts';
import { scanLogs, scanTraces } from '../../src/otlp/scan.ts';
import type { Shipment } from './workload.ts';

const settings = settingsSchema.parse({});
const { settle, keys } = createSettling(settings);
const mask = compileMask({
  attributes: settings.receive.maskAttributes,
  queryParameters: settings.receive.maskQueryParameters,
});

/** A trace is done with after this long: what is sent late is sent sooner. Its evidence need not be kept then. */
const KEEP_MS = 150_000;

interface KnownTrace {
  spans: Span[];
  logs: LogRecord[];
  touchedMs: number;
  /** Ids of the records that its evidence yields now. */
  ids: readonly string[];
}

/**
 * What must be stored: the batch join of all acknowledged evidence of each trace, by the settle that the product uses, without any
 * of what makes it hard: no log, no index, no late evidence, no restart.
 */
export class Oracle {
  readonly #namespace: string;
  readonly #traces = new Map<string, KnownTrace>();
  readonly #changed = new Set<string>();
  readonly #digests = new Map<string, string>();
  /** Spans and log records that were acknowledged, repeated ones included. */
  readonly evidence = { traces: 0, logs: 0 };

  constructor(namespace: string) {
    this.#namespace = namespace;
  }

  /** Every record that must be visible, by id: a digest of its content. */
  get records(): ReadonlyMap<string, string> {
    for (const id of this.#changed) this.#settle(id);
    this.#changed.clear();
    return this.#digests;
  }

  acknowledge(shipment: Shipment, nowMs: number): void {
    const payload = Buffer.from(shipment.payload);
    maskSecrets(payload, shipment.signal, mask);
    const reader = new PayloadReader(payload, shipment.signal, this.#note(shipment), keys);
    const starts: number[] = [];
    const scan = shipment.signal === 'traces' ? scanTraces : scanLogs;
    scan(payload, ({ itemStart }) => starts.push(itemStart));
    this.evidence[shipment.signal] += starts.length;
    for (const start of starts) {
      if (shipment.signal === 'traces') {
        const span = reader.span(start);
        this.#trace(span.traceId, nowMs).spans.push(span);
      } else {
        const log = reader.logRecord(start);
        // One that names no trace settles by itself.
        const key = log.traceId === '' ? `untraced ${digest(log.raw)}` : log.traceId;
        this.#trace(key, nowMs).logs.push(log);
      }
    }
  }

  /** Lets go of the evidence of traces that nothing can come for any more; what they yield stays known. */
  forgetOld(nowMs: number): void {
    for (const [id, trace] of this.#traces) {
      if (nowMs - trace.touchedMs > KEEP_MS && !this.#changed.has(id)) this.#traces.delete(id);
    }
  }

  /** The record as it must be, as long as its trace's evidence is kept. */
  expected(recordId: string): AuditRecord | undefined {
    for (const [id, trace] of this.#traces) {
      if (trace.ids.includes(recordId))
        return this.#settlement(id, trace).records.find((made) => made.id === recordId)?.record;
    }
    return undefined;
  }

  #trace(id: string, nowMs: number): KnownTrace {
    let trace = this.#traces.get(id);
    if (trace === undefined) {
      trace = { spans: [], logs: [], touchedMs: nowMs, ids: [] };
      this.#traces.set(id, trace);
    }
    trace.touchedMs = nowMs;
    this.#changed.add(id);
    return trace;
  }

  #settlement(id: string, { spans, logs }: KnownTrace) {
    const traceId = id.startsWith('untraced') ? '' : id;
    return settle({ namespace: this.#namespace, traceId, spans, logs });
  }

  #settle(id: string): void {
    const trace = this.#traces.get(id);
    if (trace === undefined) return;
    for (const old of trace.ids) this.#digests.delete(old);
    const { records } = this.#settlement(id, trace);
    trace.ids = records.map((made) => made.id);
    for (const made of records) this.#digests.set(made.id, contentDigest(made.record));
  }

  #note({ transport }: Shipment): FrameNote {
    const namespace = this.#namespace;
    return { receivedNs: 0n, namespace, sender: transport, trusted: true, vouches: false, peer: '127.0.0.1' };
  }
}

/** Of what a record says, without the fields that tell how and when it came about. */
export function contentDigest(record: AuditRecord): string {
  return digest(canonicalText(withoutExempt(record))).slice(0, 16);
}

/** The fields outside the equality of settles: they tell how and when. */
export function withoutExempt(record: AuditRecord): unknown {
  const { ingested: _ingested, hash: _hash, ...event } = record.event;
  const { revision: _revision, revised_at: _at, supersedes: _supersedes, join, ...audit } = record.audit;
  const { reason: _reason, late: _late, horizon: _horizon, ...rest } = join;
  return { ...record, event, audit: { ...audit, join: rest } };
}

/** JSON with sorted keys. */
export function canonicalText(value: unknown): string {
  return JSON.stringify(value, (_, held: unknown) =>
    typeof held === 'object' && held !== null && !Array.isArray(held)
      ? Object.fromEntries(Object.entries(held).sort(([one], [other]) => (one < other ? -1 : 1)))
      : held,
  );
}

function digest(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}
