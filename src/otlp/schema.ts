import { assert } from '../core/assert.ts';
import type { Signal } from '../core/evidence.ts';

/**
 * The messages of opentelemetry-proto 1.x (collector, common, resource, trace, logs, metrics), for what needs all of them
 * and not just the few fields that the scan and the decoder read. A line is a message and its fields: JSON name, number,
 * type, `*` when repeated. `id` are bytes that OTLP's JSON writes in hex.
 */
const MESSAGES = `
AnyValue: stringValue 1 string, boolValue 2 bool, intValue 3 int64, doubleValue 4 double, arrayValue 5 ArrayValue
AnyValue: kvlistValue 6 KeyValueList, bytesValue 7 bytes
ArrayValue: values 1 AnyValue*
KeyValueList: values 1 KeyValue*
KeyValue: key 1 string, value 2 AnyValue
EntityRef: schemaUrl 1 string, type 2 string, idKeys 3 string*, descriptionKeys 4 string*
Resource: attributes 1 KeyValue*, droppedAttributesCount 2 uint32, entityRefs 3 EntityRef*
Scope: name 1 string, version 2 string, attributes 3 KeyValue*, droppedAttributesCount 4 uint32

TracesRequest: resourceSpans 1 ResourceSpans*
ResourceSpans: resource 1 Resource, scopeSpans 2 ScopeSpans*, schemaUrl 3 string
ScopeSpans: scope 1 Scope, spans 2 Span*, schemaUrl 3 string
Span: traceId 1 id, spanId 2 id, traceState 3 string, parentSpanId 4 id, name 5 string, kind 6 SpanKind
Span: startTimeUnixNano 7 fixed64, endTimeUnixNano 8 fixed64, attributes 9 KeyValue*, droppedAttributesCount 10 uint32
Span: events 11 Event*, droppedEventsCount 12 uint32, links 13 Link*, droppedLinksCount 14 uint32, status 15 Status
Span: flags 16 fixed32
Event: timeUnixNano 1 fixed64, name 2 string, attributes 3 KeyValue*, droppedAttributesCount 4 uint32
Link: traceId 1 id, spanId 2 id, traceState 3 string, attributes 4 KeyValue*, droppedAttributesCount 5 uint32
Link: flags 6 fixed32
Status: message 2 string, code 3 StatusCode

LogsRequest: resourceLogs 1 ResourceLogs*
ResourceLogs: resource 1 Resource, scopeLogs 2 ScopeLogs*, schemaUrl 3 string
ScopeLogs: scope 1 Scope, logRecords 2 LogRecord*, schemaUrl 3 string
LogRecord: timeUnixNano 1 fixed64, severityNumber 2 SeverityNumber, severityText 3 string, body 5 AnyValue
LogRecord: attributes 6 KeyValue*, droppedAttributesCount 7 uint32, flags 8 fixed32, traceId 9 id, spanId 10 id
LogRecord: observedTimeUnixNano 11 fixed64, eventName 12 string

MetricsRequest: resourceMetrics 1 ResourceMetrics*
ResourceMetrics: resource 1 Resource, scopeMetrics 2 ScopeMetrics*, schemaUrl 3 string
ScopeMetrics: scope 1 Scope, metrics 2 Metric*, schemaUrl 3 string
Metric: name 1 string, description 2 string, unit 3 string, gauge 5 Gauge, sum 7 Sum, histogram 9 Histogram
Metric: exponentialHistogram 10 ExponentialHistogram, summary 11 Summary, metadata 12 KeyValue*
Gauge: dataPoints 1 NumberPoint*
Sum: dataPoints 1 NumberPoint*, aggregationTemporality 2 AggregationTemporality, isMonotonic 3 bool
Histogram: dataPoints 1 HistogramPoint*, aggregationTemporality 2 AggregationTemporality
ExponentialHistogram: dataPoints 1 ExponentialPoint*, aggregationTemporality 2 AggregationTemporality
Summary: dataPoints 1 SummaryPoint*
NumberPoint: startTimeUnixNano 2 fixed64, timeUnixNano 3 fixed64, asDouble 4 double, exemplars 5 Exemplar*
NumberPoint: asInt 6 sfixed64, attributes 7 KeyValue*, flags 8 uint32
HistogramPoint: startTimeUnixNano 2 fixed64, timeUnixNano 3 fixed64, count 4 fixed64, sum 5 double
HistogramPoint: bucketCounts 6 fixed64*, explicitBounds 7 double*, exemplars 8 Exemplar*, attributes 9 KeyValue*
HistogramPoint: flags 10 uint32, min 11 double, max 12 double
ExponentialPoint: attributes 1 KeyValue*, startTimeUnixNano 2 fixed64, timeUnixNano 3 fixed64, count 4 fixed64
ExponentialPoint: sum 5 double, scale 6 sint32, zeroCount 7 fixed64, positive 8 Buckets, negative 9 Buckets
ExponentialPoint: flags 10 uint32, exemplars 11 Exemplar*, min 12 double, max 13 double, zeroThreshold 14 double
Buckets: offset 1 sint32, bucketCounts 2 uint64*
SummaryPoint: startTimeUnixNano 2 fixed64, timeUnixNano 3 fixed64, count 4 fixed64, sum 5 double
SummaryPoint: quantileValues 6 ValueAtQuantile*, attributes 7 KeyValue*, flags 8 uint32
ValueAtQuantile: quantile 1 double, value 2 double
Exemplar: timeUnixNano 2 fixed64, asDouble 3 double, spanId 4 id, traceId 5 id, asInt 6 sfixed64
Exemplar: filteredAttributes 7 KeyValue*
`;

/** Names of the numbers from 0 on, without their common beginning. */
const ENUMERATIONS: Readonly<Record<string, readonly [string, string]>> = {
  SpanKind: ['SPAN_KIND_', 'UNSPECIFIED INTERNAL SERVER CLIENT PRODUCER CONSUMER'],
  StatusCode: ['STATUS_CODE_', 'UNSET OK ERROR'],
  AggregationTemporality: ['AGGREGATION_TEMPORALITY_', 'UNSPECIFIED DELTA CUMULATIVE'],
  SeverityNumber: [
    'SEVERITY_NUMBER_',
    'UNSPECIFIED TRACE TRACE2 TRACE3 TRACE4 DEBUG DEBUG2 DEBUG3 DEBUG4 INFO INFO2 INFO3 INFO4 ' +
      'WARN WARN2 WARN3 WARN4 ERROR ERROR2 ERROR3 ERROR4 FATAL FATAL2 FATAL3 FATAL4',
  ],
};

const SCALARS = [
  ...['string', 'bool', 'bytes', 'id', 'int64', 'uint32', 'uint64', 'sint32'],
  ...['fixed32', 'fixed64', 'sfixed64', 'double'],
] as const;

export type Scalar = (typeof SCALARS)[number];

export interface Enumeration {
  /** By number, from 0. */
  readonly names: readonly string[];
}

export interface MessageField {
  readonly number: number;
  readonly type: Scalar | Enumeration | Message;
  readonly repeated: boolean;
}

export interface Message {
  readonly name: string;
  /** By the JSON name and by the name in the .proto file: protobuf's JSON parsers accept both. */
  readonly fields: Map<string, MessageField>;
}

const messages = new Map<string, Message>();

function messageNamed(name: string): Message {
  const known = messages.get(name);
  if (known !== undefined) return known;
  const created: Message = { name, fields: new Map() };
  messages.set(name, created);
  return created;
}

function typeNamed(name: string): MessageField['type'] {
  const scalar = SCALARS.find((known) => known === name);
  if (scalar !== undefined) return scalar;
  const [prefix, names] = ENUMERATIONS[name] ?? [];
  if (prefix === undefined || names === undefined) return messageNamed(name);
  return { names: names.split(' ').map((rest) => prefix + rest) };
}

for (const [, owner = '', fields = ''] of MESSAGES.matchAll(/^(\w+): (.+)$/gm)) {
  for (const text of fields.split(', ')) {
    const [, name = '', number, type = '', star] = /^(\w+) (\d+) (\w+)(\*?)$/.exec(text) ?? [];
    assert(name !== '', `schema field "${text}" of ${owner}`);
    const field = { number: Number(number), type: typeNamed(type), repeated: star === '*' };
    messageNamed(owner).fields.set(name, field);
    messageNamed(owner).fields.set(
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      field,
    );
  }
}

/** Export{Trace,Logs,Metrics}ServiceRequest. */
export const REQUESTS: Readonly<Record<Signal, Message>> = {
  traces: messageNamed('TracesRequest'),
  logs: messageNamed('LogsRequest'),
  metrics: messageNamed('MetricsRequest'),
};
