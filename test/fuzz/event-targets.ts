import { Counters } from '../../src/core/metrics.ts';
import { compileMask, maskSecrets } from '../../src/otlp/mask.ts';
import { scanLogs } from '../../src/otlp/scan.ts';
import { createAccessCodec } from '../../src/receive/access-proto.ts';
import { createAccessService } from '../../src/receive/access-service.ts';
import type { Admit } from '../../src/receive/admission.ts';
import { createEventsRoute } from '../../src/receive/events-service.ts';
import { decodeReceipt, encodeRecordRequest } from '../receive/access-client.ts';
import { promise, type Target } from './target.ts';

const clock = { nowMs: () => Date.parse('2026-11-22T12:00:00Z') };
const room = { add: () => undefined, shrinkTo: () => undefined };
const CODEC = createAccessCodec();
const MASK = compileMask({ attributes: ['password'], queryParameters: ['token'] });

/** Sends the input twice; what it comes to must be whole, counted and the same. */
function target(name: string, path: string, contentType: string, more: Pick<Target, 'samples' | 'tokens'>): Target {
  const kept: Buffer[] = [];
  const admit: Admit = async (_, payload) => {
    const scanned = scanLogs(payload);
    promise(scanned.ok && scanned.rejected === 0, () => 'an admitted payload does not pass the scan');
    maskSecrets(payload, 'logs', MASK);
    kept.push(payload);
    return { kind: 'accepted', items: scanned.items, rejected: 0, reason: '', trusted: true };
  };
  const shared = { admit, counters: new Counters(), clock, codec: CODEC };
  // A new one each time: what events without id and time are told apart by begins anew.
  const routeAt = () =>
    [createAccessService(shared).route, createEventsRoute({ ...shared, presets: ['opa'], signatures: new Map() })].find(
      (each) => path.startsWith(each.path),
    );
  const send = async (body: Buffer) => {
    kept.length = 0;
    const route = routeAt();
    promise(route !== undefined, () => `no route at ${path}`);
    const opened = route.open({
      path,
      contentType,
      headers: {},
      peer: '10.0.0.7',
      namespace: undefined,
      browser: false,
      room,
    });
    promise(typeof opened === 'function', () => 'the route does not open');
    const reply = await opened(Buffer.from(body));
    return { status: reply.status, answer: reply.body, bytes: Buffer.concat(kept) };
  };
  return {
    name,
    weight: 2,
    ...more,
    async check(input) {
      const first = await send(input);
      promise(first.status === 200 || first.status === 400, () => `status ${first.status}`);
      promise(first.answer.length < 4 * 1024 * 1024, () => `an answer of ${first.answer.length} bytes`);
      const isProtobuf = contentType.endsWith('protobuf');
      if (first.status === 200) {
        const receipt = isProtobuf ? decodeReceipt(first.answer) : JSON.parse(first.answer.toString());
        const scanned = first.bytes.length === 0 ? 0 : scanLogs(first.bytes);
        const items = scanned === 0 ? 0 : scanned.ok ? scanned.items : -1;
        promise(items === receipt.accepted, () => `${receipt.accepted} accepted, ${items} kept`);
        promise(receipt.rejected.length <= receipt.rejectedCount, () => 'more rejections than there were');
      } else promise(first.bytes.length === 0, () => 'something of a refused request was kept');
      const second = await send(input);
      promise(second.bytes.equals(first.bytes), () => 'another content the second time');
      promise(second.answer.equals(first.answer), () => 'another answer the second time');
    },
  };
}

const EVENT = {
  id: 'e1',
  time: '2026-11-22T10:19:13.5Z',
  actor: { id: 'alice', type: 'agent', roles: ['nurse'], on_behalf_of: { id: 'bob' } },
  action: 'read',
  target: { type: 'patient', id: 'patients/7' },
  outcome: 'failure',
  checks: [{ permission: 'read', granted: false, duration: '1.5ms' }],
  source: { ip: '10.0.0.7', port: 443 },
  trace_id: '4bf92f3577b34da6a3ce929d0e0e4736',
  span_id: '00f067aa0ba902b7',
  change: { before: { dose: 1 } },
  attributes: { 'db.system': 'postgresql', n: 12345678901234567890n.toString(), list: [1, null, { a: true }] },
};

const WORDS = [
  ...[
    '{"id":"',
    '"actor":',
    '"action":"',
    '"time":"',
    '"attributes":{',
    '"checks":[',
    '"granted":true',
    '"duration":"',
  ],
  ...[
    'null',
    '1e400',
    '-1',
    '12345678901234567890',
    '\\ud800',
    '"__proto__":',
    '2026-11-22T',
    '\n',
    ',',
    '[',
    '{',
    '}',
    ']',
  ],
];

export const EVENT_TARGETS: readonly Target[] = [
  target('access-json', '/v1/access', 'application/json', {
    samples: [
      Buffer.from(JSON.stringify(EVENT)),
      Buffer.from(JSON.stringify({ events: [EVENT, EVENT, { ...EVENT, id: 'e2', actor: 'bob' }] })),
      Buffer.from(`${JSON.stringify(EVENT)}\n${JSON.stringify({ ...EVENT, id: 'e2' })}\n`),
    ],
    tokens: WORDS,
  }),
  target('access-protobuf', '/v1/access', 'application/x-protobuf', {
    samples: [
      encodeRecordRequest([
        {
          ...EVENT,
          time: { seconds: 1_795_000_000, nanos: 5 },
          checks: [{ permission: 'read', granted: false, duration: { nanos: 1_500_000 } }],
          change: { before: { structValue: { fields: { dose: { numberValue: 1 } } } } },
          attributes: { fields: { n: { numberValue: 5 }, list: { listValue: { values: [{ nullValue: 0 }] } } } },
        },
        { id: 'e2' },
      ]),
    ],
  }),
  target('webhook', '/v1/events/opa', 'application/json', {
    samples: [
      Buffer.from(JSON.stringify([{ decision_id: 'a', input: { user: 'alice' }, result: false }, 7])),
      Buffer.from(JSON.stringify({ kind: 'EventList', items: [{ kind: 'Event', auditID: 'a' }] })),
      Buffer.from('{"Records":[{"eventID":"a"}]}\n{"detail-type":"x","detail":{"eventVersion":"1"}}\n'),
    ],
    tokens: [...WORDS, '"items":[', '"Records":', '"kind":"EventList"', '"detail":'],
  }),
];
