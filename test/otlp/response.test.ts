import { describe, expect, it } from 'vitest';
import { encodeExportResponse, encodeStatus } from '../../src/otlp/response.ts';
import { ORACLE, oracleDecode, type Plain } from './oracle.ts';

/** Far below the 4 MiB of OTLP, and with base64 below the 8 KiB of headers that gRPC clients take. */
const BYTES_MAX = 6000;

describe('the answer to an export', () => {
  it('is empty on full success', () => {
    expect(encodeExportResponse('protobuf', 'traces', 0, '')).toHaveLength(0);
    expect(encodeExportResponse('json', 'traces', 0, '').toString()).toBe('{}');
  });

  it.each([
    ['traces', 'rejectedSpans'],
    ['logs', 'rejectedLogRecords'],
    ['metrics', 'rejectedDataPoints'],
  ] as const)('says how many of the %s were rejected and why', (signal, name) => {
    const bytes = encodeExportResponse('protobuf', signal, 300, 'bad ids');
    expect(oracleDecode(ORACLE.exportResponse, bytes)).toEqual({
      partialSuccess: { rejected: '300', errorMessage: 'bad ids' },
    });
    const json: unknown = JSON.parse(encodeExportResponse('json', signal, 300, 'bad ids').toString());
    expect(json).toEqual({ partialSuccess: { [name]: '300', errorMessage: 'bad ids' } });
  });

  it('stays short', () => {
    for (const encoding of ['protobuf', 'json'] as const) {
      expect(encodeExportResponse(encoding, 'logs', 1, 'x'.repeat(8 << 20)).length).toBeLessThan(BYTES_MAX);
    }
  });
});

describe('a status', () => {
  const decode = (bytes: Buffer) => {
    const { details = [], ...status } = oracleDecode(ORACLE.status, bytes);
    return { ...status, details: (details as Plain[]).map(decodeDetail) };
  };
  const decodeDetail = ({ typeUrl, value }: Plain): object => {
    const name = String(typeUrl).replace('type.googleapis.com/google.rpc.', '');
    const type = { RetryInfo: ORACLE.retryInfo, BadRequest: ORACLE.badRequest }[name];
    return { name, ...(type && oracleDecode(type, value as Buffer)) };
  };

  it('has a code and a message', () => {
    expect(decode(encodeStatus('protobuf', { code: 14, message: 'later' }))).toEqual({
      code: 14,
      message: 'later',
      details: [],
    });
    expect(JSON.parse(encodeStatus('json', { code: 14, message: 'later' }).toString())).toEqual({
      code: 14,
      message: 'later',
    });
  });

  it.each([
    [1500, { seconds: '1', nanos: 500_000_000 }, '1.500s'],
    [2000, { seconds: '2' }, '2s'],
    [0.2, { nanos: 1_000_000 }, '0.001s'],
    [-5, {}, '0s'],
  ])('can say to retry after %d ms', (retryAfterMs, retryDelay, text) => {
    const answer = { code: 14, message: 'later', retryAfterMs };
    expect(decode(encodeStatus('protobuf', answer)).details).toEqual([{ name: 'RetryInfo', retryDelay }]);
    expect(JSON.parse(encodeStatus('json', answer).toString())).toMatchObject({
      details: [{ '@type': 'type.googleapis.com/google.rpc.RetryInfo', retryDelay: text }],
    });
  });

  it('can say what is wrong with the request', () => {
    const badRequest = { field: 'resourceSpans[0]', description: 'must be an object' };
    const answer = { code: 3, message: 'bad', badRequest };
    expect(decode(encodeStatus('protobuf', answer)).details).toEqual([
      { name: 'BadRequest', fieldViolations: [badRequest] },
    ]);
    expect(JSON.parse(encodeStatus('json', answer).toString())).toMatchObject({
      details: [{ '@type': 'type.googleapis.com/google.rpc.BadRequest', fieldViolations: [badRequest] }],
    });
  });

  it('stays short', () => {
    const long = 'x'.repeat(8 << 20);
    const answer = { code: 3, message: long, badRequest: { field: long, description: long }, retryAfterMs: 1 };
    for (const encoding of ['protobuf', 'json'] as const) {
      expect(encodeStatus(encoding, answer).length).toBeLessThan(BYTES_MAX);
    }
  });
});
