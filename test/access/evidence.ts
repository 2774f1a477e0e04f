import type { Access, Verdict } from '../../src/access/access.ts';
import { recogniseLog, recogniseSpan } from '../../src/access/recognise.ts';
import { type AccessRules, compileRules } from '../../src/access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../../src/access/settings.ts';
import type { TraceView } from '../../src/access/trace-view.ts';
import {
  type AttributeValue,
  type FrameNote,
  type LogRecord,
  SPAN_KIND,
  type Span,
  STATUS_CODE,
} from '../../src/core/evidence.ts';

export const RULES = compileRules(DEFAULT_ACCESS_SETTINGS);

export type Values = Readonly<Record<string, AttributeValue>>;

export const NOTE: FrameNote = {
  receivedNs: 2_000n,
  namespace: 'default',
  sender: 'grpc',
  trusted: true,
  vouches: false,
  peer: '10.0.0.1',
};

function attributes(values: Values): Map<string, AttributeValue> {
  return new Map(Object.entries(values));
}

export interface SpanParts {
  readonly id?: string;
  readonly parent?: string;
  readonly name?: string;
  readonly kind?: keyof typeof SPAN_KIND;
  readonly service?: string;
  readonly error?: string | true;
  readonly exception?: Values;
  readonly note?: Partial<FrameNote>;
}

export function span(values: Values, parts: SpanParts = {}): Span {
  return {
    traceId: 'a'.repeat(32),
    spanId: parts.id ?? 'b'.repeat(16),
    parentSpanId: parts.parent ?? '',
    traceState: '',
    flags: 1,
    name: parts.name ?? 'span',
    kind: SPAN_KIND[parts.kind ?? 'internal'],
    startNs: 1_000n,
    endNs: 1_500n,
    attributes: attributes(values),
    attributeCount: Object.keys(values).length,
    events: parts.exception ? [{ attributes: attributes(parts.exception) }] : [],
    statusCode: parts.error === undefined ? STATUS_CODE.unset : STATUS_CODE.error,
    statusMessage: typeof parts.error === 'string' ? parts.error : '',
    resource: { attributes: attributes({ 'service.name': parts.service ?? 'orders' }) },
    scope: { name: 'test', version: '1' },
    note: { ...NOTE, ...parts.note },
    raw: new Uint8Array(),
  };
}

export function log(values: Values, parts: Partial<LogRecord> = {}): LogRecord {
  return {
    traceId: 'a'.repeat(32),
    spanId: 'b'.repeat(16),
    timeNs: 1_200n,
    observedNs: 1_300n,
    severityNumber: 9,
    severityText: 'INFO',
    eventName: '',
    body: undefined,
    attributes: attributes(values),
    resource: { attributes: attributes({ 'service.name': 'orders' }) },
    scope: { name: 'test', version: '1' },
    note: NOTE,
    raw: new Uint8Array(),
    ...parts,
  };
}

function expectAccess(verdict: Verdict): Access {
  if (verdict.kind !== 'access') throw new Error(`expected an access, got ${JSON.stringify(verdict)}`);
  return verdict.access;
}

export function accessOf(evidence: Span | LogRecord, rules: AccessRules = RULES): Access {
  return expectAccess('kind' in evidence ? recogniseSpan(evidence, rules) : recogniseLog(evidence, rules));
}

/** A trace as the settle step shows it: spans are given root first. */
export function viewOf(spans: readonly Span[], logs: readonly LogRecord[] = []): TraceView {
  const indexOf = new Map(spans.map((entry, index) => [entry.spanId, index]));
  const parent = spans.map((entry) => indexOf.get(entry.parentSpanId) ?? -1);
  return { spans, parent, indexOf, logsBySpan: Map.groupBy(logs, (entry) => entry.spanId), logs };
}
