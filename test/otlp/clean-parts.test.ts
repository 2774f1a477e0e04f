import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { settingsSchema } from '../../src/config/schema.ts';
import { CleanParts, IS_CLEAN, NOT_KEPT } from '../../src/otlp/clean-parts.ts';
import type { CredentialFinder } from '../../src/otlp/credential-finder.ts';
import { compileMask, maskSecrets } from '../../src/otlp/mask.ts';
import type { Mask } from '../../src/otlp/mask-names.ts';
import { SHAPES, type Shape } from '../../src/otlp/mask-shape.ts';
import { delimited, encodeLogs, encodeMetrics, encodeTraces, keyValues, spanMessage } from './encode.ts';
import { ORACLE, oracleDecode } from './oracle.ts';
import { chooser, encodeUnusually } from './unusual.ts';

const { receive, identity } = settingsSchema.parse({});
const SETTINGS = {
  attributes: receive.maskAttributes,
  queryParameters: receive.maskQueryParameters,
  sessions: identity.sessions,
};

function parts(slots: number, bytesMax = 1536): Mask['clean'] {
  const make = () => new CleanParts(slots, bytesMax);
  return { rests: make(), texts: make(), keys: make() };
}

const PLAIN = compileMask(SETTINGS, parts(2, 0));

/** Notes all that it is told. */
class Notes implements CredentialFinder {
  readonly told: unknown[] = [];
  hasUntimed = false;

  arrived(kind: string): void {
    this.told.push(kind);
  }

  token(token: string): void {
    this.told.push(['token', token]);
    this.hasUntimed = true;
  }

  session(id: Buffer): void {
    this.told.push(['session', id.toString('latin1')]);
    id.fill('h');
    this.hasUntimed = true;
  }

  usedAt(timeNs: bigint): void {
    this.told.push(['used', timeNs]);
    this.hasUntimed = false;
  }
}

function run(payload: Buffer, signal: 'traces' | 'logs' | 'metrics', mask: Mask) {
  const notes = new Notes();
  const bytes = Buffer.from(payload);
  const masked = maskSecrets(bytes, signal, mask, notes);
  return { masked, told: notes.told, bytes: bytes.toString('latin1') };
}

const JWT = `${Buffer.from('{"alg":"RS256"}').toString('base64url')}.${Buffer.from('{"sub":"alice"}').toString('base64url')}.c2lnbmF0dXJl`;

const key = fc.constantFrom(
  'a',
  'user.id',
  'http.route',
  'url.full',
  'url.query',
  'password',
  'form.password',
  'session.id',
  'enduser.session.id',
  'http.request.header.cookie',
  'http.request.header.authorization',
  'http.request.header.x-request-id',
  'http.request.header.x-token',
  'baggage',
  'http.request.header.baggage',
  'db.query.text',
);
const text = fc.constantFrom(
  'alice',
  'alicf',
  '/orders/17',
  '/orders/18?token=abc',
  'https://bob:pw@h/x',
  'https://bob@h/x?session=1',
  `Bearer ${JWT}`,
  JWT,
  `seen ${JWT} in a longer text`,
  'JSESSIONID=0123456789abcdef; theme=dark',
  '0123456789abcdef0123456789abcdef',
  '{"password":"x","a":1}',
  'session.id=0123456789abcdef,password=p',
  'DB_PASSWORD=hunter2',
  'SELECT a FROM b WHERE c = $1',
  '',
);
const value = fc.oneof(
  text,
  text,
  fc.integer(),
  fc.boolean(),
  fc.double({ noNaN: true }),
  fc.array(text, { maxLength: 2 }),
  fc.dictionary(key, text, { maxKeys: 2 }),
);
const attributes = fc.dictionary(key, value, { maxKeys: 4 });
const span = fc.record({
  name: text,
  statusMessage: text,
  startNs: fc.constantFrom(1n, 2n),
  attributes,
  events: fc.array(fc.record({ name: text, attributes }), { maxLength: 1 }),
  links: fc.array(fc.record({ attributes }), { maxLength: 1 }),
});
const IDS = { traceId: 'a1'.repeat(16), spanId: 'b2'.repeat(8) };
const request = fc.oneof(
  fc
    .record({ attributes, scope: fc.record({ name: fc.constant('s'), attributes }), spans: fc.array(span) })
    .map((resource) => ({
      signal: 'traces' as const,
      payload: encodeTraces([{ ...resource, spans: resource.spans.map((each) => ({ ...IDS, ...each })) }]),
    })),
  fc
    .record({ attributes, logs: fc.array(fc.record({ body: value, attributes })) })
    .map((resource) => ({ signal: 'logs' as const, payload: encodeLogs([resource]) })),
  fc.record({ attributes, given: fc.array(attributes) }).map((resource) => ({
    signal: 'metrics' as const,
    payload: encodeMetrics([
      {
        ...resource,
        metrics: [{ name: 'm', points: resource.given.map((given) => ({ value: 1, attributes: given })) }],
      },
    ]),
  })),
);

describe('what is remembered to be clean changes nothing', () => {
  it.each([2, 8, 1024])('in what is masked, counted and told, with %i slots', (slots) => {
    const remembering = compileMask(SETTINGS, parts(slots));
    fc.assert(
      fc.property(fc.array(request, { minLength: 1, maxLength: 4 }), fc.integer(), (requests, seed) => {
        const choose = chooser(seed);
        // Each twice, then with one byte changed, then written in another way, so that there is much to remember.
        for (const { signal, payload } of [...requests, ...requests]) {
          expect(run(payload, signal, remembering)).toEqual(run(payload, signal, PLAIN));
          const other = Buffer.from(payload);
          const at = Math.abs(seed) % Math.max(1, other.length);
          if (other.length > 0) other[at] = (other[at] as number) ^ 1;
          expect(run(other, signal, remembering)).toEqual(run(other, signal, PLAIN));
          const unusual = encodeUnusually(ORACLE[signal], oracleDecode(ORACLE[signal], payload), choose);
          expect(run(unusual, signal, remembering)).toEqual(run(unusual, signal, PLAIN));
        }
      }),
      { numRuns: 300 },
    );
  });

  it('where every value varies and little is remembered any more', () => {
    const remembering = compileMask(SETTINGS, parts(64));
    for (let index = 0; index < 3000; index++) {
      const given = { 'user.id': `user-${index}`, 'url.query': `a=${index}&token=${index}` };
      const payload = encodeTraces([{ spans: [{ ...IDS, name: `n ${index}`, attributes: given }] }]);
      expect(run(payload, 'traces', remembering)).toEqual(run(payload, 'traces', PLAIN));
    }
  });

  it('where so much cannot be decoded that the rest is overwritten unread', () => {
    const remembering = compileMask(SETTINGS, parts(64));
    const attribute = keyValues(9, { 'a.list': ['of', 'values'] });
    const broken = delimited(11, delimited(3, Buffer.from([0xff])));
    const good = delimited(2, Buffer.concat([spanMessage(IDS), attribute]));
    // The thousandth stands in front of what is known by then, in the same message.
    const bad = Buffer.concat([spanMessage(IDS), ...Array.from({ length: 1001 }, () => broken), attribute]);
    const payload = delimited(1, delimited(2, Buffer.concat([good, delimited(2, bad)])));
    run(payload, 'traces', remembering);
    expect(run(payload, 'traces', remembering)).toEqual(run(payload, 'traces', PLAIN));
  });

  it('of a token in which nothing is left to mask', () => {
    const remembering = compileMask(SETTINGS, parts(64));
    const unsigned = `Bearer ${JWT.slice(0, JWT.lastIndexOf('.') + 1)}`;
    const given = { 'http.request.header.authorization': unsigned };
    const payload = encodeTraces([{ spans: [{ ...IDS, startNs: 7n, attributes: given }] }]);
    for (let time = 0; time < 2; time++) {
      expect(run(payload, 'traces', remembering)).toMatchObject({
        masked: 0,
        told: [
          ['token', unsigned.slice(7)],
          ['used', 7n],
        ],
      });
    }
  });

  it('where the same bytes mean something else in another message', () => {
    const remembering = compileMask(SETTINGS, parts(64));
    // Field 11 is an event in a span, and nothing with attributes in a point of a histogram, whose attributes are field 9, too.
    const rest = Buffer.concat([
      keyValues(9, { 'a.list': ['x'] }),
      delimited(11, keyValues(3, { password: 'hunter2' })),
    ]);
    const point = delimited(1, delimited(2, delimited(2, delimited(9, delimited(1, rest)))));
    expect(run(point, 'metrics', remembering).masked).toBe(0);
    const span = delimited(1, delimited(2, delimited(2, Buffer.concat([spanMessage(IDS), rest]))));
    expect(run(span, 'traces', remembering).masked).toBe(1);
  });

  it('as kinds of messages are told apart', () => {
    const numbers = new Set<number>();
    const count = (shape: Shape): void => {
      if (numbers.has(shape.number)) return;
      numbers.add(shape.number);
      for (const child of shape.fields) if (child) count(child);
    };
    for (const shape of Object.values(SHAPES)) count(shape);
    expect(Math.max(...numbers)).toBeLessThan(256);
  });
});

describe('parts', () => {
  const view = (bytes: Buffer): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

  it('are known by every byte, their length and their kind', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 40 }), fc.nat(), fc.nat(), (given, place, kind) => {
        const known = new CleanParts(2, 64);
        const bytes = Buffer.from(given);
        const slot = known.find(view(bytes), 0, bytes.length, kind % 256);
        known.keep(slot, view(bytes), 0, bytes.length, kind % 256);
        expect(known.find(view(bytes), 0, bytes.length, kind % 256)).toBe(IS_CLEAN);
        const padded = Buffer.concat([Buffer.alloc(3), bytes, Buffer.alloc(3)]);
        expect(known.find(view(padded), 3, 3 + bytes.length, kind % 256)).toBe(IS_CLEAN);
        expect(known.find(view(padded), 3, 4 + bytes.length, kind % 256)).not.toBe(IS_CLEAN);
        expect(known.find(view(bytes), 0, bytes.length, (kind + 1) % 256)).not.toBe(IS_CLEAN);
        const at = place % bytes.length;
        bytes[at] = (bytes[at] as number) ^ (1 << (kind % 8));
        expect(known.find(view(bytes), 0, bytes.length, kind % 256)).not.toBe(IS_CLEAN);
      }),
    );
  });

  it('that are too short or too long are not kept', () => {
    const known = new CleanParts(2, 16);
    expect([7, 8, 16, 17].map((length) => known.find(view(Buffer.alloc(32, 1)), 0, length) === NOT_KEPT)).toEqual([
      true,
      false,
      false,
      true,
    ]);
  });
});
