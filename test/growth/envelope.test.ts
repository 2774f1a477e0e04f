import fc from 'fast-check';
import { expect, it } from 'vitest';
import { eachLog, openEvent, requestOf, sealEvent } from '../../src/app/forward-envelope.ts';
import type { FrameNote, LogRecord } from '../../src/core/evidence.ts';
import { logDigest } from '../../src/enrich/identity.ts';
import { compileKeys, PayloadReader } from '../../src/otlp/decode.ts';
import { compileMask, maskSecrets } from '../../src/otlp/mask.ts';
import { scanLogs } from '../../src/otlp/scan.ts';
import { encodeLogs, type TestLog } from '../otlp/encode.ts';

const SECRET = 'made up for this test, 32 letters';
const OTHER = 'another one, of 32 letters as well';
const NOTE: FrameNote = {
  ...{ receivedNs: 1_795_000_000_000_000_001n, namespace: 'clinic', sender: 'webhook', trusted: true, vouches: false },
  ...{ peer: '10.0.0.7', sessions: { abc: { id: 'alice', roles: ['nurse'] } } },
};
const everyKey = compileKeys(['*']);

function digestsOf(payload: Buffer): string[] {
  const reader = new PayloadReader(payload, 'logs', NOTE, everyKey);
  const logs: LogRecord[] = [];
  scanLogs(payload, ({ itemStart }) => logs.push(reader.logRecord(itemStart)));
  return logs.map((log) => `${log.traceId} ${logDigest(log)}`);
}

const hexOf = (bytes: number) =>
  fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((given) => Buffer.from(given).toString('hex'));
const log: fc.Arbitrary<TestLog> = fc.record(
  { traceId: hexOf(16), spanId: hexOf(8), timeNs: fc.bigInt(1n, 2n ** 62n), body: fc.string(), eventName: fc.string() },
  { requiredKeys: [] },
);
const request = fc
  .array(fc.record({ service: fc.string(), logs: fc.array(log, { maxLength: 4 }) }), { maxLength: 4 })
  .map((given) =>
    encodeLogs(
      given.map(({ service, logs }) => ({
        ...{ logs, attributes: { 'service.name': service }, scope: { name: service, version: '1' } },
      })),
    ),
  );

it('a request taken apart and put together has the same records, and so has what is forwarded, masked twice or not', () => {
  const mask = compileMask({ attributes: ['password', 'token'], queryParameters: ['*'] });
  fc.assert(
    fc.property(request, (payload) => {
      const singles = [...eachLog(payload)];
      expect(digestsOf(Buffer.concat(singles.map((single) => single.request)))).toEqual(digestsOf(payload));
      const traced = singles.flatMap(({ request: event, traceId }) => (traceId ? [{ event, traceId }] : []));
      const sent = requestOf(
        traced.map(({ event, traceId }) => sealEvent(traceId, { note: NOTE, request: event }, SECRET)),
      );
      maskSecrets(sent, 'logs', mask);
      const arrived = [...eachLog(sent)];
      // Each goes where its trace goes.
      expect(arrived.map(({ traceId }) => traceId)).toEqual(traced.map(({ traceId }) => traceId));
      const opened = arrived.map(({ record }) => openEvent(record, [OTHER, SECRET]));
      expect(opened).toEqual(traced.map(({ event }) => ({ kind: 'event', note: NOTE, request: event })));
    }),
    { numRuns: 300 },
  );
});

it('who does not know the secret states nothing in the name of another', () => {
  const [single] = eachLog(encodeLogs([{ logs: [{ traceId: 'a'.repeat(32), body: 'alice opened a chart' }] }]));
  if (single?.traceId === undefined) throw new Error('it has a trace');
  const sealed = sealEvent(single.traceId, { note: NOTE, request: single.request }, SECRET);
  expect(openEvent(sealed, [SECRET]).kind).toBe('event');
  for (const secrets of [[OTHER], []]) expect(openEvent(sealed, secrets).kind).toBe('refused');
  expect(openEvent(single.record, [SECRET]).kind).toBe('plain');
  // Any change of what is signed, or of the signature.
  const text = sealed.indexOf('AAA');
  for (let at = text; at < sealed.length; at += 7) {
    const changed = Buffer.from(sealed);
    changed[at] = (changed[at] ?? 0) ^ 0x01;
    const opened = openEvent(changed, [SECRET]);
    if (opened.kind === 'event') expect(opened).toEqual({ kind: 'event', note: NOTE, request: single.request });
  }
});
