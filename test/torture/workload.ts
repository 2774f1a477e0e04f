import { buildTemplate, freshen, GRPC_PREFIX_BYTES } from '../bench/workload.ts';
import { encodeLogs, encodeTraces, type TestLog, type TestSpan } from '../otlp/encode.ts';
import type { Random } from './random.ts';

/**
 * What is sent: the bench's traffic, and between it visits to a clinic whose evidence comes in parts, early, late, twice,
 * corrected, and on both sides of a midnight, so that revisions move records from one day to another.
 */
export interface Shipment {
  readonly what: ShipmentKind;
  readonly signal: 'traces' | 'logs';
  readonly transport: 'grpc' | 'http';
  /** The round whose slice of time it is about. */
  readonly round: number;
  /** An OTLP request in protobuf. */
  readonly payload: Buffer;
}

export const SHIPMENT_KINDS = [
  'bulk',
  'whole trace',
  'part of a trace',
  'event',
  'event without a trace',
  'late span',
  'corrected span',
  'repeated',
] as const;

export type ShipmentKind = (typeof SHIPMENT_KINDS)[number];

const TRACES_A_BULK = 8;
const DAY_MS = 86_400_000;
const SLICE_MS = 60_000;
const NANOS_PER_MILLI = 1_000_000n;

/** Late parts follow after up to this many further requests: some within the round, some rounds later. */
const LATER_MAX = 120;
/** Late parts that are held back longer than this are not sent: they must come inside the horizon. */
const LATE_MS_MAX = 90_000;
const REPEATABLE_MAX = 200;

interface Delayed {
  readonly shipment: Shipment;
  /** The number of requests after which it goes out. */
  readonly after: number;
  readonly sinceMs: number;
}

interface Visit {
  readonly traceId: string;
  readonly rootId: string;
  readonly startNs: bigint;
  readonly person: string;
  readonly patient: number;
}

/** A slice of time on both sides of midnight that belongs to one round, epoch milliseconds; the ends are exclusive. */
export interface Slice {
  readonly before: readonly [number, number];
  readonly after: readonly [number, number];
}

export class Workload {
  readonly #random: Random;
  readonly #template = buildTemplate(TRACES_A_BULK);
  readonly #midnightMs: number;
  readonly #hasStories: boolean;
  #round = 0;
  #taken = 0;
  #delayed: Delayed[] = [];
  #repeatable: { readonly shipment: Shipment; readonly sinceMs: number }[] = [];

  /**
   * Times lie around the midnight after next, so that none is ever older than what the horizon holds. Without stories every
   * trace comes whole, in one request: for runs in which the horizon may get short.
   */
  constructor(random: Random, nowMs: number, { hasStories = true } = {}) {
    this.#random = random;
    this.#hasStories = hasStories;
    this.#midnightMs = (Math.floor(nowMs / DAY_MS) + 2) * DAY_MS;
  }

  /** From now on times are of this round's slice. */
  enter(round: number): void {
    this.#round = round;
  }

  slice(round: number): Slice {
    const from = round * SLICE_MS;
    return {
      before: [this.#midnightMs - from - SLICE_MS, this.#midnightMs - from],
      after: [this.#midnightMs + from, this.#midnightMs + from + SLICE_MS],
    };
  }

  /** The next request, of any kind. */
  next(nowMs: number): Shipment {
    this.#taken++;
    const due = this.#delayed.findIndex(({ after }) => after <= this.#taken);
    if (due >= 0) {
      const [delayed] = this.#delayed.splice(due, 1);
      if (delayed && nowMs - delayed.sinceMs < LATE_MS_MAX) return delayed.shipment;
    }
    const choice = this.#random.next();
    const repeated = this.#repeatable[this.#random.below(this.#repeatable.length)];
    if (choice < 0.08 && repeated && nowMs - repeated.sinceMs < LATE_MS_MAX) {
      return { ...repeated.shipment, what: 'repeated' };
    }
    const shipment = choice < 0.5 ? this.#bulk() : choice < 0.58 ? this.#untraced() : this.#visit(nowMs);
    this.#repeatable.push({ shipment, sinceMs: nowMs });
    if (this.#repeatable.length > REPEATABLE_MAX) this.#repeatable.shift();
    return shipment;
  }

  /** What is held back, all at once: the rest of every story that was begun. */
  rest(nowMs: number): Shipment[] {
    const rest = this.#delayed.filter(({ sinceMs }) => nowMs - sinceMs < LATE_MS_MAX);
    this.#delayed = [];
    return rest.map(({ shipment }) => shipment);
  }

  #later(nowMs: number, ...shipments: readonly Shipment[]): void {
    for (const shipment of shipments) {
      const after = this.#taken + 1 + this.#random.below(LATER_MAX);
      this.#delayed.push({ shipment, after, sinceMs: nowMs });
    }
  }

  #instantMs(side: 'before' | 'after' | 'any'): number {
    const slice = this.slice(this.#round);
    const isBefore = side === 'any' ? this.#random.chance(0.5) : side === 'before';
    const [from, to] = isBefore ? slice.before : slice.after;
    // A second is left at the end, so that what a trace does later stays inside.
    return from + this.#random.below(to - from - 1000);
  }

  #transport(): 'grpc' | 'http' {
    return this.#random.chance(0.7) ? 'grpc' : 'http';
  }

  #bulk(): Shipment {
    const framed = Buffer.from(this.#template.bytes);
    freshen(framed, this.#template, this.#random.bytes(8), this.#instantMs('any'));
    const payload = framed.subarray(GRPC_PREFIX_BYTES);
    return { what: 'bulk', signal: 'traces', transport: 'grpc', round: this.#round, payload };
  }

  /** Starts a trace of its own; what does not come at once is put off. */
  #visit(nowMs: number): Shipment {
    const random = this.#random;
    const visit: Visit = {
      traceId: random.hex(16),
      rootId: random.hex(8),
      startNs: BigInt(this.#instantMs('before')) * NANOS_PER_MILLI,
      person: `nurse-${random.below(20)}`,
      patient: random.below(1000),
    };
    const root = rootSpan(visit, random.chance(0.2));
    const statements = Array.from({ length: 1 + random.below(3) }, () => statementSpan(visit, random.hex(8)));
    const whole = this.#spans('whole trace', [root, ...statements]);
    if (!this.#hasStories) return whole;
    switch (random.below(6)) {
      case 0:
        // The event is known first, on the day after; its span then says that it began on the day before.
        this.#later(nowMs, whole);
        return this.#event(visit, 'after');
      case 1:
        this.#later(nowMs, this.#event(visit, 'before'));
        return whole;
      case 2:
        // One event takes the id of its span; a second one takes it away again.
        this.#later(nowMs, this.#event(visit, 'before'), this.#event(visit, 'after'));
        return whole;
      case 3:
        this.#later(nowMs, this.#spans('part of a trace', [root]));
        return this.#spans('part of a trace', statements);
      case 4:
        this.#later(nowMs, this.#spans('late span', [statementSpan(visit, random.hex(8))]));
        return whole;
      default:
        this.#later(nowMs, this.#spans('corrected span', [{ ...root, endNs: (root.endNs ?? 0n) + NANOS_PER_MILLI }]));
        return whole;
    }
  }

  #spans(what: ShipmentKind, spans: readonly TestSpan[]): Shipment {
    const payload = encodeTraces([{ attributes: { 'service.name': 'records' }, spans }]);
    return { what, signal: 'traces', transport: this.#transport(), round: this.#round, payload };
  }

  #event(visit: Visit, side: 'before' | 'after'): Shipment {
    const timeNs =
      side === 'before' ? visit.startNs + 5n * NANOS_PER_MILLI : BigInt(this.#instantMs('after')) * NANOS_PER_MILLI;
    return this.#log('event', eventLog(visit, timeNs, this.#random.hex(4)));
  }

  #untraced(): Shipment {
    const timeNs = BigInt(this.#instantMs('any')) * NANOS_PER_MILLI;
    const {
      traceId: _trace,
      spanId: _span,
      ...log
    } = eventLog(
      { traceId: '', rootId: '', startNs: timeNs, person: 'porter', patient: this.#random.below(1000) },
      timeNs,
      this.#random.hex(4),
    );
    return this.#log('event without a trace', log);
  }

  #log(what: ShipmentKind, log: TestLog): Shipment {
    const payload = encodeLogs([{ attributes: { 'service.name': 'records' }, logs: [log] }]);
    return { what, signal: 'logs', transport: this.#transport(), round: this.#round, payload };
  }
}

function rootSpan({ traceId, rootId, startNs, person, patient }: Visit, isRefused: boolean): TestSpan {
  return {
    traceId,
    spanId: rootId,
    name: 'GET /patients/:id',
    kind: 2,
    startNs,
    endNs: startNs + 20n * NANOS_PER_MILLI,
    attributes: {
      'http.request.method': 'GET',
      'http.route': '/patients/:id',
      'url.path': `/patients/${patient}`,
      'http.response.status_code': isRefused ? 403 : 200,
      'http.request.header.x-forwarded-user': [person],
    },
  };
}

function statementSpan({ traceId, rootId, startNs }: Visit, spanId: string): TestSpan {
  return {
    traceId,
    spanId,
    parentSpanId: rootId,
    name: 'SELECT clinic',
    kind: 3,
    startNs: startNs + 2n * NANOS_PER_MILLI,
    endNs: startNs + 9n * NANOS_PER_MILLI,
    attributes: { 'db.system.name': 'postgresql', 'db.query.text': 'SELECT * FROM patients WHERE id = $1' },
  };
}

function eventLog({ traceId, rootId, person, patient }: Visit, timeNs: bigint, note: string): TestLog {
  return {
    traceId,
    spanId: rootId,
    timeNs,
    observedNs: timeNs,
    eventName: 'patient.access',
    attributes: {
      'user.id': person,
      'event.action': 'open-chart',
      'event.outcome': 'success',
      'audit.purpose': `treatment ${note}`,
      'audit.target.id': `patients/${patient}`,
      'audit.target.type': 'patient',
    },
  };
}
