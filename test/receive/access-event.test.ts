import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FUTURE_MS_MAX, readAccessEvent } from '../../src/receive/access-event.ts';
import { TEXT_BYTES_MAX } from '../../src/receive/access-fields.ts';
import { createAccessCodec } from '../../src/receive/access-proto.ts';
import { encodeLogItem } from '../../src/receive/log-items.ts';

const NOW_MS = Date.parse('2026-11-22T10:20:00Z');
const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';

const good = { id: 'e1', time: '2026-11-22T10:19:59.5Z', actor: { id: 'alice' }, action: 'read' };

function read(event: unknown) {
  return readAccessEvent(event, { nowMs: NOW_MS, sequence: () => 7 });
}

/** The log record's attributes of an event that is taken. */
function attributes(event: object): Record<string, unknown> {
  const result = read({ ...good, ...event });
  if (!result.ok) throw new Error(`${result.problem.field}: ${result.problem.reason}`);
  return Object.fromEntries(result.item.attributes);
}

describe('an access event', () => {
  it('becomes a log record in the names of the record', () => {
    const event = {
      ...good,
      service: 'ward',
      actor: {
        id: 'bot-7',
        type: 'agent',
        name: 'Bot',
        email: 'bot@example.com',
        roles: ['reader', 'writer'],
        onBehalfOf: { id: 'alice', name: 'Alice' },
        group: 'robots',
        relation: 'contractor',
      },
      target: { type: 'patient', id: 'patients/7', name: 'Jo', service: 'charts' },
      outcome: 'FAILURE',
      decision: 'deny',
      reason: 'not on this ward',
      rule: { id: 'r1', name: 'own ward' },
      checks: [
        { permission: 'read', target: 'patients/7', granted: false, rule: 'r1', duration: '1.5ms', engine: 'opa' },
      ],
      source: { ip: '10.0.0.7', port: 443, user_agent: 'curl' },
      session_id: 's-1',
      traceId: TRACE_ID.toUpperCase(),
      span_id: '00f067aa0ba902b7',
      purpose: 'treatment',
      change: { before: { dose: 1 }, after: '2' },
      duration: '41ms',
      attributes: { 'db.system': 'postgresql', nothing: null, deep: { b: [1, 'x', null], a: true } },
    };
    const result = read(event);
    expect(result).toMatchObject({
      ok: true,
      id: 'e1',
      notes: [],
      item: {
        service: 'ward',
        timeNs: BigInt(NOW_MS - 500) * 1_000_000n,
        traceId: TRACE_ID,
        spanId: '00f067aa0ba902b7',
        eventName: 'access',
      },
    });
    expect(attributes(event)).toEqual({
      'spantrail.via': 'access_api',
      'event.id': 'e1',
      'user.id': 'bot-7',
      'user.name': 'Bot',
      'user.email': 'bot@example.com',
      'user.roles': ['reader', 'writer'],
      'user.group.name': 'robots',
      'audit.actor.type': 'agent',
      'audit.actor.relation': 'contractor',
      'user.effective.id': 'alice',
      'user.effective.name': 'Alice',
      'event.action': 'read',
      'audit.target.type': 'patient',
      'audit.target.id': 'patients/7',
      'audit.target.name': 'Jo',
      'audit.target.service': 'charts',
      'event.outcome': 'failure',
      'audit.decision': 'deny',
      'event.reason': 'not on this ward',
      'rule.id': 'r1',
      'rule.name': 'own ward',
      'audit.checks': [
        { permission: 'read', target: 'patients/7', granted: false, rule: 'r1', duration: 1_500_000, engine: 'opa' },
      ],
      'source.ip': '10.0.0.7',
      'source.port': 443,
      'user_agent.original': 'curl',
      'session.id': 's-1',
      'audit.purpose': 'treatment',
      'audit.change.before': { dose: 1 },
      'audit.change.after': '2',
      'event.duration': 41_000_000,
      'db.system': 'postgresql',
      deep: { a: true, b: [1, 'x'] },
    });
  });

  it.each<[string, object, Record<string, unknown>]>([
    [
      'actor, target and rule as texts',
      { actor: 'bob', target: 'p/1', rule: 'r' },
      { 'user.id': 'bob', 'rule.id': 'r' },
    ],
    ['numbers as ids', { actor: { id: 42 } }, { 'user.id': '42' }],
    ['an actor known by name alone', { actor: { name: 'Bob' } }, { 'user.name': 'Bob' }],
    ['nobody, when it says so', { actor: { type: 'anonymous' } }, { 'audit.actor.type': 'anonymous' }],
    ['a session as an object', { session: { id: 's' } }, { 'session.id': 's' }],
    ['one role', { actor: { id: 'a', roles: 'nurse' } }, { 'user.roles': ['nurse'] }],
    ['nanoseconds', { duration: 5 }, { 'event.duration': 5 }],
    ['its own word before an attribute’s', { attributes: { 'user.id': 'eve' } }, { 'user.id': 'alice' }],
    ['nulls and empty texts as absent', { reason: '', rule: null, checks: [] }, { 'user.id': 'alice' }],
  ])('takes %s', (_, event, expected) => expect(attributes(event)).toMatchObject(expected));

  it.each<[string, unknown, string, string, RegExp]>([
    ['no object', [], 'event', 'invalid', /must be an object/],
    ['no actor', { ...good, actor: undefined }, 'actor', 'actor_missing', /who did it/],
    ['an actor who is nobody', { ...good, actor: { roles: ['x'] } }, 'actor.id', 'actor_missing', /anonymous/],
    ['an actor of spaces', { ...good, actor: { id: '  ' } }, 'actor.id', 'actor_missing', /is missing/],
    [
      'an actor of another kind',
      { ...good, actor: [1] },
      'actor',
      'invalid',
      /must be an object like {"id".*not a list/,
    ],
    ['no action', { ...good, action: '' }, 'action', 'action_missing', /such as "read"/],
    ['a time in the future', { ...good, time: '2026-11-22T10:25:01Z' }, 'time', 'time_in_future', /5 minutes ahead/],
    [
      'a time far in the future',
      { ...good, time: '9999-12-31T23:59:59Z' },
      'time',
      'time_in_future',
      /clock, which says/,
    ],
    ['a time that is none', { ...good, time: 'yesterday' }, 'time', 'invalid', /RFC 3339 .*not the text "yesterday"/],
    ['a time as a number', { ...good, time: 1_700_000_000 }, 'time', 'invalid', /not the number 1700000000/],
    ['a time before 1970', { ...good, time: '1969-12-31T23:59:59Z' }, 'time', 'invalid', /after 1970/],
    [
      'an unknown outcome',
      { ...good, outcome: 'great' },
      'outcome',
      'invalid',
      /success, failure or unknown, not "great"/,
    ],
    ['an unknown decision', { ...good, decision: 'maybe' }, 'decision', 'invalid', /allow, deny or none/],
    [
      'an unknown type of actor',
      { ...good, actor: { id: 'a', type: 'cat' } },
      'actor.type',
      'invalid',
      /user, service/,
    ],
    ['a target without id', { ...good, target: { type: 'x' } }, 'target.id', 'invalid', /is missing/],
    ['nobody’s behalf', { ...good, actor: { id: 'a', on_behalf_of: {} } }, 'actor.on_behalf_of.id', 'invalid', /whose/],
    ['a check without result', { ...good, checks: [{}] }, 'checks[0].granted', 'invalid', /true or false/],
    ['a check that is none', { ...good, checks: ['x'] }, 'checks[0]', 'invalid', /must be an object/],
    [
      '65 checks',
      { ...good, checks: Array(65).fill({ granted: true }) },
      'checks',
      'too_many',
      /65 entries; at most 64/,
    ],
    ['no address', { ...good, source: { ip: 'host' } }, 'source.ip', 'invalid', /IPv4 or IPv6 address, not "host"/],
    ['no port', { ...good, source: { port: 65_536 } }, 'source.port', 'invalid', /0 to 65535/],
    ['a short trace id', { ...good, traceId: 'abc' }, 'trace_id', 'invalid', /32 hex digits/],
    ['a trace id of zeros', { ...good, trace_id: '0'.repeat(32) }, 'trace_id', 'invalid', /not all zero/],
    ['a span without trace', { ...good, span_id: '00f067aa0ba902b7' }, 'span_id', 'invalid', /needs trace_id/],
    ['a long id', { ...good, id: 'x'.repeat(4097) }, 'id', 'too_large', /4097 characters; at most 4096/],
    [
      '10 MB of attribute',
      { ...good, attributes: { a: 1, blob: 'x'.repeat(1e7) } },
      'attributes.blob',
      'too_large',
      /at most/,
    ],
    ['a long list', { ...good, attributes: { l: Array(1e5).fill(1) } }, 'attributes.l', 'too_large', /at most 65536/],
    ['a long reason', { ...good, reason: 'é'.repeat(TEXT_BYTES_MAX / 2 + 1) }, 'reason', 'too_large', /65538 bytes/],
    [
      'an attribute of ours',
      { ...good, attributes: { 'spantrail.preset': 'x' } },
      'attributes.spantrail.preset',
      'reserved',
      /own/,
    ],
    ['deep nesting', { ...good, attributes: { a: nested(40) } }, 'attributes.a', 'invalid', /deeper than 32/],
    ['no duration', { ...good, duration: 'long' }, 'duration', 'invalid', /"41ms"/],
    ['a structure as a text', { ...good, reason: { a: 1 } }, 'reason', 'invalid', /must be text, not an object/],
  ])('is refused for %s', (_, event, field, code, reason) => {
    const result = read(event);
    if (result.ok) throw new Error('taken');
    expect(result.problem).toMatchObject({ field, code });
    expect(result.problem.reason).toMatch(reason);
  });

  it('may be a little ahead', () => {
    expect(read({ ...good, time: new Date(NOW_MS + FUTURE_MS_MAX).toISOString() }).ok).toBe(true);
  });

  it('without id and time has the time of its arrival', () => {
    const result = read({ actor: 'alice', action: 'read' });
    expect(result).toMatchObject({
      ok: true,
      item: { timeNs: BigInt(NOW_MS) * 1_000_000n + 7n },
      notes: [{ field: 'time', reason: expect.stringMatching(/sent again, it would be another/) }],
    });
    expect(read({ id: 'e', actor: 'alice', action: 'read' })).toMatchObject({
      ok: true,
      item: { timeNs: 0n },
      notes: [],
    });
  });

  it('tells what it leaves out', () => {
    const result = read({ ...good, actr: 1, target: { id: 't', nam: 'x' }, attributes: { 'user.id': 'eve' } });
    expect(result.ok && result.notes).toEqual([
      {
        field: 'target.nam',
        reason: 'unknown field, left out (did you mean name?); further fields go into attributes',
      },
      { field: 'attributes.user.id', reason: 'left out: a field of the event says it already' },
      { field: 'actr', reason: 'unknown field, left out (did you mean actor?); further fields go into attributes' },
    ]);
  });
});

function nested(levels: number): unknown {
  return levels === 0 ? 1 : [nested(levels - 1)];
}

it('is taken as the handbook shows it', () => {
  const page = readFileSync('docs/access-events.md', 'utf8');
  const examples = [...page.matchAll(/```json\n(.*?)```|-d '(\{\n.*?)'\n/gs)].map(
    (match) => match[1] ?? match[2] ?? '',
  );
  expect(examples).toHaveLength(2);
  for (const example of examples) {
    expect(read(JSON.parse(example))).toMatchObject({
      ok: true,
      notes: [],
    });
  }
});

describe('the codec of access.proto', () => {
  it('takes any bytes', () => {
    const codec = createAccessCodec();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        for (const attempt of [() => [...codec.split(bytes)], () => read(codec.decode(bytes))]) {
          try {
            attempt();
          } catch (thrown) {
            expect(thrown).toBeInstanceOf(Error);
          }
        }
      }),
    );
  });
});

describe('any JSON', () => {
  it('is read or refused, and what is read is the same bytes each time', () => {
    const event = fc.record(
      {
        id: fc.oneof(fc.string(), fc.integer()),
        time: fc.constant(good.time),
        actor: fc.oneof(fc.string(), fc.record({ id: fc.string() }), fc.jsonValue()),
        action: fc.string(),
        target: fc.jsonValue(),
        attributes: fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), fc.jsonValue()),
        checks: fc.jsonValue(),
      },
      { requiredKeys: ['time'] },
    );
    fc.assert(
      fc.property(event, (given) => {
        const [first, second] = [read(given), read(JSON.parse(JSON.stringify(given)))];
        expect(second.ok).toBe(first.ok);
        if (first.ok && second.ok) expect(encodeLogItem(second.item)).toEqual(encodeLogItem(first.item));
        else expect(first.ok || first.problem.reason.length > 0).toBe(true);
      }),
    );
  });
});
