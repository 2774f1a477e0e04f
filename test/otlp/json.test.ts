import { describe, expect, it } from 'vitest';
import type { Signal } from '../../src/core/evidence.ts';
import { transcodeJson } from '../../src/otlp/json.ts';
import { quoteLongIntegers } from '../../src/otlp/json-integers.ts';
import { scanLogs, scanTraces } from '../../src/otlp/scan.ts';
import { ORACLE, oracleDecode, type Plain } from './oracle.ts';

const TRACE_ID = '5B8EFFF798038103D269B633813FC60C';
const SPAN_ID = 'eee19b7ec3c1b174';

/** The request as the oracle reads it after transcoding. */
function transcoded(signal: Signal, document: unknown): Plain {
  const text = typeof document === 'string' ? document : JSON.stringify(document);
  const result = transcodeJson(signal, Buffer.from(text));
  if (!result.ok) throw new Error(`${result.path}: ${result.message}`);
  return oracleDecode(ORACLE[signal], result.payload);
}

function refused(document: unknown): string {
  const text = typeof document === 'string' ? document : JSON.stringify(document);
  const result = transcodeJson('traces', Buffer.from(text));
  return result.ok ? 'accepted' : `${result.path}: ${result.message}`;
}

const inSpan = (span: object) => ({ resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] });
const first = (message: Plain, field: string): Plain => ((message[field] ?? []) as Plain[])[0] ?? {};
const spanOf = (span: object): Plain =>
  first(first(first(transcoded('traces', inSpan(span)), 'resourceSpans'), 'scopeSpans'), 'spans');
const attributeValue = (value: unknown): unknown =>
  first(spanOf({ attributes: [{ key: 'a', value }] }), 'attributes')['value'];

const ATTRIBUTES = [{ key: 'a', value: { stringValue: 'ä' } }];
const POINT = { attributes: ATTRIBUTES, startTimeUnixNano: '1', timeUnixNano: '2' };
const EXEMPLARS = [{ filteredAttributes: ATTRIBUTES, timeUnixNano: '2', asInt: '-3' }];
const HOME = {
  resource: { attributes: ATTRIBUTES, droppedAttributesCount: 1 },
  schemaUrl: 'https://opentelemetry.io/schemas/1.40.0',
};
const SCOPE = { name: 'scope', version: '1', attributes: ATTRIBUTES, droppedAttributesCount: 2 };

/** Documents of which every part must arrive as it is; 64-bit integers as text, as the oracle gives them. */
const WHOLE: [Signal, object][] = [
  [
    'traces',
    {
      resourceSpans: [
        {
          ...HOME,
          scopeSpans: [
            {
              scope: SCOPE,
              spans: [
                {
                  traceState: 'a=b',
                  name: 'GET /',
                  kind: 2,
                  startTimeUnixNano: '1544712660300000001',
                  endTimeUnixNano: '18446744073709551615',
                  attributes: ATTRIBUTES,
                  droppedAttributesCount: 4294967295,
                  events: [{ timeUnixNano: '5', name: 'e', attributes: ATTRIBUTES, droppedAttributesCount: 1 }],
                  droppedEventsCount: 2,
                  links: [{ traceState: 'c=d', attributes: ATTRIBUTES, flags: 4294967295 }],
                  droppedLinksCount: 3,
                  status: { message: 'bad', code: 2 },
                  flags: 257,
                },
              ],
              schemaUrl: 'x',
            },
          ],
        },
      ],
    },
  ],
  [
    'logs',
    {
      resourceLogs: [
        {
          ...HOME,
          scopeLogs: [
            {
              scope: SCOPE,
              logRecords: [
                {
                  timeUnixNano: '1',
                  severityNumber: 9,
                  severityText: 'INFO',
                  body: { kvlistValue: { values: ATTRIBUTES } },
                  attributes: ATTRIBUTES,
                  droppedAttributesCount: 1,
                  flags: 1,
                  observedTimeUnixNano: '2',
                  eventName: 'access',
                },
              ],
            },
          ],
        },
      ],
    },
  ],
  [
    'metrics',
    {
      resourceMetrics: [
        {
          ...HOME,
          scopeMetrics: [
            {
              scope: SCOPE,
              metrics: [
                {
                  name: 'g',
                  description: 'd',
                  unit: 'By',
                  gauge: { dataPoints: [{ ...POINT, asDouble: 1.5, flags: 1 }] },
                },
                {
                  name: 's',
                  metadata: ATTRIBUTES,
                  sum: {
                    dataPoints: [{ ...POINT, asInt: '-9223372036854775808', exemplars: EXEMPLARS }],
                    aggregationTemporality: 2,
                    isMonotonic: true,
                  },
                },
                {
                  name: 'h',
                  histogram: {
                    dataPoints: [
                      {
                        ...POINT,
                        count: '3',
                        sum: 6.5,
                        bucketCounts: ['1', '2'],
                        explicitBounds: [0.5],
                        exemplars: EXEMPLARS,
                        flags: 1,
                        min: 1,
                        max: 4,
                      },
                    ],
                    aggregationTemporality: 1,
                  },
                },
                {
                  name: 'e',
                  exponentialHistogram: {
                    dataPoints: [
                      {
                        ...{
                          ...POINT,
                          count: '3',
                          sum: 6.5,
                          scale: -2,
                          zeroCount: '1',
                          flags: 1,
                          exemplars: EXEMPLARS,
                        },
                        ...{ positive: { offset: -2147483648, bucketCounts: ['18446744073709551615'] } },
                        ...{
                          negative: { offset: 2147483647, bucketCounts: ['1'] },
                          min: 1,
                          max: 4,
                          zeroThreshold: 0.25,
                        },
                      },
                    ],
                    aggregationTemporality: 1,
                  },
                },
                {
                  name: 'q',
                  summary: {
                    dataPoints: [
                      { ...POINT, count: '3', sum: 6.5, quantileValues: [{ quantile: 0.5, value: 2 }], flags: 1 },
                    ],
                  },
                },
              ],
            },
          ],
        },
      ],
    },
  ],
];

/** Names as in the .proto files. */
function snakeCase(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(snakeCase);
  if (typeof value !== 'object' || value === null) return value;
  const rename = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.fromEntries(Object.entries(value).map(([name, content]) => [rename(name), snakeCase(content)]));
}

describe('a document', () => {
  it.each(WHOLE)('of %s arrives whole, with either kind of names', (signal, document) => {
    expect(transcoded(signal, document)).toEqual(document);
    expect(transcoded(signal, snakeCase(document))).toEqual(document);
  });

  it.each(['traces', 'logs', 'metrics'] as const)('may be empty (%s)', (signal) => {
    expect(transcodeJson(signal, Buffer.from('{}'))).toEqual({ ok: true, payload: Buffer.alloc(0) });
  });

  it('may start with a byte order mark', () => expect(transcoded('traces', '\ufeff{}')).toEqual({}));

  it('may have unknown fields and nulls', () => {
    expect(spanOf({ name: 'a', kind: null, attributes: null, status: null, futureField: { x: [1] } })).toEqual({
      name: 'a',
    });
  });
});

describe('ids', () => {
  it('are hex in any case', () => {
    const span = spanOf({ traceId: TRACE_ID, spanId: SPAN_ID.toUpperCase(), parentSpanId: '' });
    expect(span['traceId']).toEqual(Buffer.from(TRACE_ID, 'hex'));
    expect(span['spanId']).toEqual(Buffer.from(SPAN_ID, 'hex'));
  });

  it.each([
    'xyz',
    'abc',
    `${TRACE_ID.slice(1)}g`,
    'sixteen.letters!',
    'äääääääääääääääää',
    '0x00',
    '00'.repeat(16),
    '',
  ])('that are wrong (%j) cost their span only', (traceId) => {
    const spans = [
      { traceId, spanId: SPAN_ID },
      { traceId: TRACE_ID, spanId: SPAN_ID },
    ];
    const result = transcodeJson(
      'traces',
      Buffer.from(JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans }] }] })),
    );
    expect(result.ok && scanTraces(result.payload)).toMatchObject({ ok: true, items: 2, rejected: 1 });
  });

  it('that are wrong leave a log record without a trace', () => {
    const document = { resourceLogs: [{ scopeLogs: [{ logRecords: [{ traceId: 'xyz', spanId: SPAN_ID }] }] }] };
    const result = transcodeJson('logs', Buffer.from(JSON.stringify(document)));
    const traceIdsAt: number[] = [];
    if (result.ok) scanLogs(result.payload, (item) => traceIdsAt.push(item.traceIdAt));
    expect(traceIdsAt).toEqual([-1]);
  });
});

describe('values', () => {
  it.each<[string, unknown]>([
    ['{"stringValue":"x"}', { stringValue: 'x' }],
    ['{"stringValue":""}', { stringValue: '' }],
    ['{"boolValue":false}', { boolValue: false }],
    ['{"intValue":"-9223372036854775808"}', { intValue: '-9223372036854775808' }],
    ['{"intValue":9007199254740993}', { intValue: '9007199254740993' }],
    ['{"intValue":0}', { intValue: '0' }],
    ['{"intValue":1e3}', { intValue: '1000' }],
    ['{"int_value":-1}', { intValue: '-1' }],
    ['{"doubleValue":1}', { doubleValue: 1 }],
    ['{"doubleValue":"1.5e3"}', { doubleValue: 1500 }],
    ['{"doubleValue":18446744073709551616}', { doubleValue: 2 ** 64 }],
    ['{"doubleValue":"NaN"}', { doubleValue: NaN }],
    ['{"doubleValue":"-Infinity"}', { doubleValue: -Infinity }],
    ['{"doubleValue":"Infinity"}', { doubleValue: Infinity }],
    ['{"bytesValue":"+/8="}', { bytesValue: Buffer.from([0xfb, 0xff]) }],
    ['{"bytesValue":"-_8"}', { bytesValue: Buffer.from([0xfb, 0xff]) }],
    ['{"arrayValue":{}}', { arrayValue: {} }],
    [
      '{"arrayValue":{"values":[{},null,{"boolValue":true}]}}',
      { arrayValue: { values: [{}, {}, { boolValue: true }] } },
    ],
    ['{"kvlistValue":{"values":[{"key":"k"}]}}', { kvlistValue: { values: [{ key: 'k' }] } }],
    ['{}', {}],
  ])('%s', (json, expected) => {
    const document = JSON.stringify(inSpan({ attributes: [{ key: 'a', value: '@' }] })).replace('"@"', json);
    const [resourceBlock] = transcoded('traces', document)['resourceSpans'] as Plain[];
    expect(resourceBlock).toEqual({ scopeSpans: [{ spans: [{ attributes: [{ key: 'a', value: expected }] }] }] });
  });

  it('of enumerations are numbers or names', () => {
    expect(spanOf({ kind: 'SPAN_KIND_CLIENT', status: { code: 'STATUS_CODE_ERROR' } })).toEqual({
      kind: 3,
      status: { code: 2 },
    });
    expect(spanOf({ kind: '4' })).toEqual({ kind: 4 });
    expect(spanOf({ kind: 99 })).toEqual({ kind: 99 });
    const [block] = transcoded('logs', {
      resourceLogs: [{ scopeLogs: [{ logRecords: [{ severityNumber: 'SEVERITY_NUMBER_FATAL4' }] }] }],
    })['resourceLogs'] as Plain[];
    expect(block).toEqual({ scopeLogs: [{ logRecords: [{ severityNumber: 24 }] }] });
  });

  it('that are times may be numbers without losing digits', () => {
    const text = JSON.stringify(inSpan({ startTimeUnixNano: 0 })).replace(':0}', ': 1544712660300000001}');
    expect(JSON.stringify(transcoded('traces', text))).toContain('"startTimeUnixNano":"1544712660300000001"');
    expect(spanOf({ startTimeUnixNano: 1.5e18 })).toEqual({ startTimeUnixNano: '1500000000000000000' });
  });

  it('of any size arrive whole', () => {
    for (let length = 900; length < 1100; length++) {
      const span = { name: 'x'.repeat(length), status: { message: 'y'.repeat(length % 130) || 'y' } };
      expect(spanOf(span)).toEqual(span);
    }
  });

  it('may be many lists, one after the other', () => {
    const values = Array.from({ length: 100 }, () => ({ arrayValue: { values: [{ boolValue: true }] } }));
    expect(attributeValue({ arrayValue: { values } })).toEqual({ arrayValue: { values } });
  });

  it('may be nested as deeply as in protobuf, deeper lists become a text', () => {
    const nested = (depth: number, inner: object): object =>
      depth === 0 ? inner : { arrayValue: { values: [nested(depth - 1, inner)] } };
    expect(attributeValue(nested(32, {}))).toEqual(nested(32, {}));
    expect(attributeValue(nested(33, {}))).toEqual(nested(32, { stringValue: '[nested too deep]' }));
    expect(attributeValue(nested(300, {}))).toEqual(nested(32, { stringValue: '[nested too deep]' }));
  });
});

describe('what is wrong is named with its place and what would be right', () => {
  const at = 'resourceSpans[0].scopeSpans[0].spans[0]';
  it.each<[unknown, string]>([
    ['', ': not valid JSON'],
    ['{', ': not valid JSON'],
    ['[]', ': must be an object, but is an array'],
    ['null', ': must be an object, but is null'],
    ['"x"', ': must be an object, but is another string'],
    ['['.repeat(200_000), ': '],
    [{ resourceSpans: {} }, 'resourceSpans: must be an array, but is an object'],
    [{ resource_spans: [1] }, 'resource_spans[0]: must be an object, but is another number'],
    [
      { resourceSpans: [{}, { scopeSpans: [{ spans: [{}, { startTimeUnixNano: 'now' }] }] }] },
      'resourceSpans[1].scopeSpans[0].spans[1].startTimeUnixNano: must be an integer from 0 to 18446744073709551615',
    ],
    [inSpan({ name: 5 }), `${at}.name: must be a string, but is another number`],
    [inSpan({ traceId: 5 }), `${at}.traceId: must be a string of hex digits`],
    [inSpan({ endTimeUnixNano: -1 }), `${at}.endTimeUnixNano: must be an integer from 0`],
    [inSpan({ endTimeUnixNano: 1.5 }), `${at}.endTimeUnixNano: must be an integer`],
    [inSpan({ endTimeUnixNano: '18446744073709551616' }), `${at}.endTimeUnixNano: must be an integer`],
    [inSpan({ flags: 4294967296 }), `${at}.flags: must be an integer from 0 to 4294967295`],
    [inSpan({ kind: 'SERVER' }), `${at}.kind: must be an integer or one of SPAN_KIND_UNSPECIFIED, `],
    [inSpan({ kind: true }), `${at}.kind: must be an integer`],
    [inSpan({ kind: 2147483648 }), `${at}.kind: must be an integer from -2147483648 to 2147483647`],
    [inSpan({ status: 'bad' }), `${at}.status: must be an object`],
    [inSpan({ attributes: { a: 1 } }), `${at}.attributes: must be an array`],
    [inSpan({ attributes: [{ key: 1 }] }), `${at}.attributes[0].key: must be a string`],
    [inSpan({ attributes: [{ value: 'x' }] }), `${at}.attributes[0].value: must be an object`],
    [
      inSpan({ attributes: [{ value: { boolValue: 'true' } }] }),
      `${at}.attributes[0].value.boolValue: must be true or false`,
    ],
    [
      inSpan({ attributes: [{ value: { intValue: '9223372036854775808' } }] }),
      `${at}.attributes[0].value.intValue: must be an integer from -9`,
    ],
    [
      inSpan({ attributes: [{ value: { doubleValue: 'nan' } }] }),
      `${at}.attributes[0].value.doubleValue: must be a number, "NaN"`,
    ],
    [
      inSpan({ attributes: [{ value: { bytesValue: 'a b' } }] }),
      `${at}.attributes[0].value.bytesValue: must be a string in base64`,
    ],
    [
      inSpan({ attributes: [{ value: { arrayValue: { values: [1] } } }] }),
      `${at}.attributes[0].value.arrayValue.values[0]: must be an object`,
    ],
  ])('case %#', (document, expected) => {
    const message = refused(document);
    expect(message.slice(0, expected.length)).toBe(expected);
  });
});

describe('long integers', () => {
  it.each([
    ['[1234567890123456]', '["1234567890123456"]'],
    ['[-1234567890123456, 1]', '["-1234567890123456", 1]'],
    ['{"a":12345678901234567890}', '{"a":"12345678901234567890"}'],
    ['[123456789012345]', '[123456789012345]'],
    [
      '[1234567890123456.5,0.1234567890123456789,1234567890123456e1]',
      '[1234567890123456.5,0.1234567890123456789,1234567890123456e1]',
    ],
    ['["1234567890123456","\\\\",1,"\\"1234567890123456"]', '["1234567890123456","\\\\",1,"\\"1234567890123456"]'],
    ['1234567890123456', '"1234567890123456"'],
    ['"1234567890123456', '"1234567890123456'],
    ['"\\', '"\\'],
    ['', ''],
  ])('%s', (json, expected) => {
    expect(Buffer.from(quoteLongIntegers(Buffer.from(json))).toString()).toBe(expected);
  });
});
