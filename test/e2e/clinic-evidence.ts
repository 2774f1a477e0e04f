import { randomBytes } from 'node:crypto';
import { encodeLogs, encodeTraces } from '../otlp/encode.ts';

const NANOS_PER_MILLI = 1_000_000n;

export interface Trace {
  readonly traceId: string;
  readonly rootId: string;
  readonly startNs: bigint;
  readonly payload: Buffer;
}

/** A request of alice: GET /patients/<number> with a statement below it: two accesses. */
export function makeTrace(number: number, startMs = Date.now() - 1000 + number): Trace {
  const traceId = randomBytes(16).toString('hex');
  const [rootId, statementId] = [randomBytes(8).toString('hex'), randomBytes(8).toString('hex')];
  const startNs = BigInt(startMs) * NANOS_PER_MILLI;
  const server = {
    traceId,
    spanId: rootId,
    name: 'GET /patients/:id',
    kind: 2,
    startNs,
    endNs: startNs + 20n * NANOS_PER_MILLI,
    attributes: {
      'http.request.method': 'GET',
      'http.route': '/patients/:id',
      'url.path': `/patients/${number}`,
      'http.response.status_code': 200,
      'http.request.header.x-forwarded-user': ['alice'],
    },
  };
  const statement = {
    traceId,
    spanId: statementId,
    parentSpanId: rootId,
    name: 'SELECT clinic',
    kind: 3,
    startNs: startNs + 2n * NANOS_PER_MILLI,
    endNs: startNs + 9n * NANOS_PER_MILLI,
    attributes: { 'db.system.name': 'postgresql', 'db.query.text': 'SELECT * FROM patients WHERE id = $1' },
  };
  const payload = encodeTraces([{ attributes: { 'service.name': 'records' }, spans: [server, statement] }]);
  return { traceId, rootId, startNs, payload };
}

export function makeTraces(count: number): Trace[] {
  return Array.from({ length: count }, (_, number) => makeTrace(number));
}

/** What the application itself says of the request: its own words for action and target, and the purpose. */
export function explicitEvent({ traceId, rootId, startNs }: Trace): Buffer {
  const timeNs = startNs + 10n * NANOS_PER_MILLI;
  const log = {
    traceId,
    spanId: rootId,
    timeNs,
    observedNs: timeNs,
    eventName: 'patient.access',
    attributes: {
      'user.id': 'alice',
      'event.action': 'open-chart',
      'event.outcome': 'success',
      'audit.purpose': 'treatment',
      'audit.target.id': 'patients/0',
      'audit.target.type': 'patient',
    },
  };
  return encodeLogs([{ attributes: { 'service.name': 'records' }, logs: [log] }]);
}
