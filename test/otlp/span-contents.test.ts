import { describe, expect, it } from 'vitest';
import { byContent } from '../../src/core/by-content.ts';
import type { FrameNote, Span } from '../../src/core/evidence.ts';
import { compileKeys, PayloadReader, SpanContents } from '../../src/otlp/decode.ts';
import { scanTraces } from '../../src/otlp/scan.ts';
import { encodeTraces, type TestSpan, withRoomForLengths } from './encode.ts';

const NOTE: FrameNote = {
  ...{ receivedNs: 5n, namespace: 'default', sender: 'grpc', trusted: true, vouches: false, peer: '10.0.0.7' },
};
const KEYS = compileKeys(['http.route', 'user.id']);
const SPAN: TestSpan = {
  ...{ traceId: 'a1'.repeat(16), spanId: 'b2'.repeat(8), parentSpanId: 'c3'.repeat(8), name: 'GET', kind: 2 },
  ...{ startNs: 1n, endNs: 2n, attributes: { 'http.route': '/a', 'user.id': 'alice', 'thread.id': 7 } },
};
const RESOURCE = { 'service.name': 'shop', 'user.id': 'nobody' };

function read(
  contents: SpanContents,
  span: Partial<TestSpan>,
  note: Partial<FrameNote> = {},
  resource = RESOURCE,
  rewritten = (payload: Buffer): Buffer => payload,
): Span {
  const payload = rewritten(encodeTraces([{ attributes: resource, spans: [{ ...SPAN, ...span }] }]));
  const reader = new PayloadReader(payload, 'traces', { ...NOTE, ...note }, KEYS, contents);
  let found: Span | undefined;
  scanTraces(payload, ({ itemStart }) => {
    found = reader.span(itemStart);
  });
  if (found === undefined) throw new Error('there is no span in it');
  return found;
}

/** The first time it only leaves a trace of itself; what it says the second time is kept. */
function readAgain(...given: Parameters<typeof read>): Span {
  expect(read(...given).content).toBeUndefined();
  return read(...given);
}

const OTHER_ID = 'd4'.repeat(8);

describe('contents of spans', () => {
  it.each<[string, Partial<TestSpan>, Partial<FrameNote>?]>([
    ['ids', { traceId: 'e5'.repeat(16), spanId: OTHER_ID, parentSpanId: OTHER_ID }],
    ['times', { startNs: 7n, endNs: 9n }],
    ['attributes that nobody asks for', { attributes: { ...SPAN.attributes, 'thread.id': 8, 'thread.name': 'x' } }],
    ['events that say nothing that is asked for', { events: [{ name: 'retry', timeNs: 5n, attributes: { a: 1 } }] }],
    ['links', { links: [{ traceId: 'e5'.repeat(16), spanId: OTHER_ID }] }],
    ['trace states', { traceState: 'vendor=1' }],
    ['where it came from', {}, { peer: '10.9.9.9', sender: 'http', receivedNs: 9n, namespace: 'other' }],
  ])('are one object where only %s differ', (_what, span, note) => {
    const contents = new SpanContents();
    const first = readAgain(contents, {});
    const second = read(contents, span, note);
    expect(first.content).toBeDefined();
    expect(second.content).toBe(first.content);
    expect(second.attributes).toBe(first.attributes);
    expect(second.resource).toBe(first.resource);
  });

  it.each<[string, Partial<TestSpan>, Partial<FrameNote>?, typeof RESOURCE?]>([
    ['a wanted attribute', { attributes: { ...SPAN.attributes, 'user.id': 'bobby' } }],
    ['a wanted attribute of an event', { events: [{ attributes: { 'user.id': 'bobby' } }] }],
    ['the name', { name: 'PUT' }],
    ['the kind', { kind: 3 }],
    ['the status', { statusCode: 2, statusMessage: 'x' }],
    ['that it is a root', { parentSpanId: '' }],
    ['trust', {}, { trusted: false }],
    ['vouching', {}, { vouches: true }],
    ['that tokens are checked', {}, { tokens: {} }],
    ['the resource', {}, {}, { ...RESOURCE, 'user.id': 'someone' }],
  ])('are two where %s differs', (_what, span, note, resource) => {
    const contents = new SpanContents();
    const first = readAgain(contents, {});
    read(contents, span, note, resource);
    const second = read(contents, span, note, resource);
    expect(second.content).toBeDefined();
    expect(second.content).not.toBe(first.content);
  });

  it.each<[string, Partial<TestSpan>, Partial<FrameNote>?]>([
    ['whose tokens were looked at', {}, { tokens: { x: 'verified' } }],
    ['whose sessions are known', {}, { sessions: { x: { id: 'alice' } } }],
    ['that are large', { attributes: { 'user.id': 'x'.repeat(10_000) } }],
  ])('are not looked for in spans %s', (_what, span, note) => {
    const contents = new SpanContents();
    expect(readAgain(contents, span, note).content).toBeUndefined();
  });

  it('are found where values are long and senders leave room for lengths', () => {
    const contents = new SpanContents();
    const route = `/${'r'.repeat(300)}`;
    const given = (thread: number) =>
      read(
        contents,
        { attributes: { 'http.route': route, 'user.id': 'alice', 'thread.id': thread } },
        {},
        RESOURCE,
        withRoomForLengths,
      );
    expect(given(1).content).toBeUndefined();
    const { content } = given(2);
    expect(content).toBeDefined();
    const again = given(3);
    expect(again.content).toBe(content);
    expect([...again.attributes]).toEqual([
      ['http.route', route],
      ['user.id', 'alice'],
    ]);
  });

  it('have the events that say what is asked for, each with its own', () => {
    const contents = new SpanContents();
    const of = (...users: readonly string[]) => ({
      events: users.map((user, at) => ({
        name: 'seen',
        timeNs: BigInt(at),
        attributes: { 'thread.id': at, ...(user && { 'user.id': user }) },
      })),
    });
    const usersOf = ({ events }: Span) => events.map(({ attributes }) => attributes.get('user.id'));
    for (const users of [['alice', '', 'bobby'], ['alice'], ['bobby', 'alice'], ['bobby', 'alice', 'alice'], ['']]) {
      const named = users.filter((user) => user !== '');
      expect(usersOf(readAgain(contents, of(...users)))).toEqual(named);
      const again = read(contents, of('', ...users));
      expect(again.content).toBeDefined();
      expect(usersOf(again)).toEqual(named);
    }
  });

  it('are kept within bounds and stay right when others take their place', () => {
    const contents = new SpanContents();
    for (let index = 0; index < 2_500; index++) {
      const route = `/${index}/${'r'.repeat(1_900)}`;
      for (let time = 0; time < 3; time++) {
        expect(read(contents, { attributes: { 'http.route': route } }).attributes.get('http.route')).toBe(route);
      }
    }
  });
});

describe('what is remembered by content', () => {
  it('is asked once for each content and set of rules, and cannot be changed', () => {
    const contents = new SpanContents();
    let asked = 0;
    const compute = byContent((span: Span, rules: { readonly prefix: string }) => {
      asked++;
      return { route: `${rules.prefix}${span.attributes.get('http.route')}`, list: [{ deep: 1 }] };
    });
    const rules = { prefix: 'r:' };
    const first = compute(readAgain(contents, {}), rules);
    expect(compute(read(contents, { spanId: OTHER_ID }), rules)).toBe(first);
    expect(asked).toBe(1);
    expect(compute(read(contents, {}), { prefix: 's:' }).route).toBe('s:/a');
    expect(() => Object.assign(first.list[0] ?? {}, { deep: 2 })).toThrow(TypeError);
  });
});
