import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { createApi } from '../../src/api/server.ts';
import { createQuarantineDesk } from '../../src/app/quarantine.ts';
import { AppError } from '../../src/core/errors.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import type { WriteResult } from '../../src/store/port.ts';
import type { Frame, StoredFrame } from '../../src/wal/frame.ts';
import { Quarantine } from '../../src/wal/quarantine.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';
import { spanIdOf, traceIdOf } from '../join/world.ts';
import { encodeLogs, encodeTraces } from '../otlp/encode.ts';
import { MemoryDisk } from '../wal/memory-disk.ts';
import { apiNeeds } from './needs.ts';

/** Refuses the ids told, fails with a batch that holds a brittle one, or is away. */
class PickyStore extends MemoryStore {
  readonly refused = new Map<string, string>();
  readonly brittle = new Set<string>();
  isAway = false;

  override async write(batch: readonly RecordWrite[]): Promise<WriteResult> {
    if (this.isAway) throw new AppError('store_unavailable', 'the store is away');
    if (batch.some(({ id }) => this.brittle.has(id))) throw new Error('broken');
    const result = await super.write(batch.filter(({ id }) => !this.refused.has(id)));
    const rejected = [...this.refused].map(([id, reason]) => ({ id, reason }));
    return { ...result, rejected: rejected.filter(({ id }) => batch.some((write) => write.id === id)) };
  }
}

let store: PickyStore;
let quarantine: Quarantine;
let frames: Map<string, Pick<StoredFrame, 'signal' | 'payload'>>;
let appended: Frame[];
let repeated: string[];
let known: Set<string>;
const NOTE = { receivedNs: 1n, namespace: 'clinic', sender: 'grpc', trusted: true, vouches: false, peer: '::1' };

const desk = createQuarantineDesk({
  quarantine: {
    page: (options) => quarantine.page(options),
    get: (key) => quarantine.get(key),
    resolve: (...resolution) => quarantine.resolve(...resolution),
    repeatsOf: (key) => quarantine.repeatsOf(key),
    status: () => quarantine.status(),
  },
  store: { write: (batch) => store.write(batch) },
  readFrame: (position) => {
    const frame = frames.get(`${position.segment}/${position.offset}`);
    if (!frame) throw new AppError('storage', `segment ${position.segment} is gone`);
    return { ...frame, note: NOTE, position, length: 0 };
  },
  append: async (frame) => void appended.push(frame),
  repeat: async (namespace, traceId) => {
    repeated.push(`${namespace} ${traceId}`);
    return known.has(traceId);
  },
});
const api = createApi(apiNeeds({ quarantine: desk }));
afterAll(() => api.close());

beforeEach(async () => {
  store = new PickyStore();
  quarantine = await Quarantine.open('/quarantine', { disk: new MemoryDisk() });
  [frames, appended, repeated, known] = [new Map(), [], [], new Set()];
});

async function ask<T = QuarantineList>(method: 'GET' | 'POST' | 'DELETE', path: string, headers = {}) {
  const response = await api.inject({ method, url: `/api/v1/quarantine${path}`, headers });
  return { status: response.statusCode, body: response.json() as T };
}

interface QuarantineList {
  readonly items: readonly { readonly id: string; readonly subject: string; readonly state: string }[];
  readonly next?: string;
  readonly open: number;
}
type Results = { readonly results: readonly { readonly id: string; readonly state: string; readonly text: string }[] };

function writeOf(id: string, rank = 5n): RecordWrite {
  return toWrite(makeRecord({ event: { id } }), { rank, previous: 7n });
}

async function setAside(stage: string, id: string, body: unknown): Promise<string> {
  await quarantine.add([{ stage, reason: 'no', id, body }]);
  return (await quarantine.page({ limit: 100 })).entries.find((entry) => entry.id === id)?.key ?? '';
}

describe('the quarantine', () => {
  it('is listed in pages, by state and stage, and shown with its body', async () => {
    const empty = { items: [], open: 0, bytes: 0, bytes_max: 256 * 1024 * 1024, damaged: 0 };
    expect(await ask('GET', '')).toEqual({ status: 200, body: empty });
    const ids: string[] = [];
    for (const name of ['a', 'b', 'c']) ids.push(await setAside('store', name, writeOf(name)));
    ids.push(await setAside('settle', 'd', []));
    const first = (await ask('GET', '?limit=3')).body;
    expect(first.items.map(({ subject }) => subject)).toEqual(['a', 'b', 'c']);
    const second = (await ask('GET', `?limit=3&cursor=${first.next}`)).body;
    expect(second).toMatchObject({ items: [{ subject: 'd', stage: 'settle', reason: 'no', state: 'open' }], open: 4 });
    expect(second.next).toBeUndefined();
    expect((await ask('GET', '?stage=settle')).body.items.map(({ id }) => id)).toEqual([ids[3]]);
    const { body } = await ask<object>('GET', `/${ids[0]?.toUpperCase()}`);
    expect(body).toMatchObject({ id: ids[0], body: { id: 'a', rank: '5', record: { event: { id: 'a' } } } });
    expect((await ask('GET', `/${'f'.repeat(16)}`)).status).toBe(404);
  });

  it('writes records again with their rank: those that are taken leave, the others stay with the reason of now', async () => {
    const [a, b, c] = [
      await setAside('store', 'a', writeOf('a')),
      await setAside('store', 'b', writeOf('b')),
      await setAside('store', 'c', writeOf('c', 1n)),
    ];
    await store.write([writeOf('c', 9n)]);
    store.refused.set('b', 'still too large');
    const { body } = await ask<Results>('POST', `/retry?ids=${a},${b},${c},${'f'.repeat(16)}`);
    expect(body.results).toEqual([
      { id: a, state: 'retried', text: 'the store has the record' },
      { id: b, state: 'open', text: 'still too large' },
      { id: c, state: 'retried', text: 'the store has the record' },
      { id: 'f'.repeat(16), state: 'unknown', text: 'nothing in quarantine has this id' },
    ]);
    const ask2 = (id: string) => ({ id, namespace: 'default', timestampNs: 0n });
    expect(await store.ranks([ask2('a'), ask2('b'), ask2('c')])).toEqual([5n, undefined, 9n]);
    expect((await ask('GET', '?state=resolved')).body.items.map(({ state }) => state)).toEqual(['retried', 'retried']);
    const again = await ask<Results>('POST', `/retry?ids=${a}`);
    expect(again.body.results).toMatchObject([
      { id: a, state: 'retried', text: expect.stringMatching(/^retried at 2/) },
    ]);
  });

  it('tries each alone when the store fails with all, and changes nothing while it is away', async () => {
    const ids = [await setAside('store', 'a', writeOf('a')), await setAside('store', 'b', writeOf('b'))];
    store.brittle.add('b');
    store.isAway = true;
    const away = await ask<object>('POST', `/retry?ids=${ids}`);
    expect(away).toMatchObject({ status: 503, body: { error: { code: 'store_unavailable' } } });
    expect((await ask('GET', '')).body.open).toBe(2);
    store.isAway = false;
    const { body } = await ask<Results>('POST', `/retry?ids=${ids}`);
    expect(body.results.map(({ state, text }) => [state, text])).toEqual([
      ['retried', 'the store has the record'],
      ['open', 'broken'],
    ]);
  });

  it('is dropped with a reason only, which is kept', async () => {
    const id = await setAside('store', 'a', writeOf('a'));
    expect((await ask('DELETE', `?ids=${id}`)).status).toBe(400);
    expect((await ask('DELETE', `?ids=${id}&reason=%20`)).status).toBe(400);
    expect((await ask<Results>('DELETE', `?ids=${id}&reason=load%20test`)).body.results).toMatchObject([
      { id, state: 'dropped', text: 'load test' },
    ]);
    const { body } = await ask<object>('GET', `/${id}`);
    expect(body).toMatchObject({ state: 'dropped', why: 'load test', resolved: expect.stringMatching(/^20/) });
    expect(body).not.toHaveProperty('body');
  });

  it.each([
    ['POST', '/retry', 400],
    ['POST', '/retry?ids=xyz', 400],
    ['POST', `/retry?ids=${Array.from({ length: 101 }, (_, at) => at.toString(16).padStart(16, '0'))}`, 400],
    ['GET', '?state=nope', 400],
    ['GET', '?cursor=0000000000000000', 400],
  ] as const)('%s %s is refused with %i', async (method, path, status) => {
    expect((await ask(method, path)).status).toBe(status);
  });

  it('is not changed by pages of other origins', async () => {
    const id = await setAside('store', 'a', writeOf('a'));
    const headers = { origin: 'https://evil.example', host: '127.0.0.1:4320' };
    expect((await ask('POST', `/retry?ids=${id}`, headers)).status).toBe(403);
    expect((await ask('DELETE', `?ids=${id}&reason=x`, { ...headers, origin: 'null' })).status).toBe(403);
    expect((await ask('GET', '')).body.open).toBe(1);
    expect((await ask('POST', `/retry?ids=${id}`, { ...headers, origin: 'http://127.0.0.1:4320' })).status).toBe(200);
  });
});

describe('evidence that is retried', () => {
  const span = (trace: number, span: number) => ({ traceId: traceIdOf(trace), spanId: spanIdOf(span), name: 'x' });
  const payload = encodeTraces([{ spans: [span(1, 1), span(2, 1), span(1, 2)] }]);
  /** Where the spans lie in the payload, as the index knows them. */
  const starts: number[] = [];
  for (let at = payload.indexOf(Buffer.from(traceIdOf(1), 'hex')); starts.length < 3; ) {
    starts.push(at - 2);
    at = payload.indexOf(Buffer.from(traceIdOf(starts.length === 1 ? 2 : 1), 'hex'), at + 1);
  }
  const place = (itemStart: number) => ({ signal: 'traces', segment: 1, offset: 32, itemStart, bytes: 'AA==' });

  beforeEach(() => frames.set('1/32', { signal: 'traces', payload }));

  it('settles each of its traces again, once', async () => {
    known.add(traceIdOf(1)).add(traceIdOf(2));
    const id = await setAside('settle', '1/32/9', starts.map(place));
    expect((await ask<Results>('POST', `/retry?ids=${id}`)).body.results).toMatchObject([{ id, state: 'retried' }]);
    expect(repeated).toEqual([`clinic ${traceIdOf(1)}`, `clinic ${traceIdOf(2)}`]);
    expect(appended).toEqual([]);
  });

  it.each([
    ['nothing is known of its trace any more', () => [place(starts[0] ?? 0)]],
    ['its frame could not be read', () => [{ signal: 'traces', segment: 1, offset: 32, bytes: 'AA==' }]],
  ])('is taken in once more when %s', async (_, body) => {
    const id = await setAside('decode', '1/32', body());
    expect((await ask<Results>('POST', `/retry?ids=${id}`)).body.results).toMatchObject([{ id, state: 'retried' }]);
    expect(appended).toEqual([{ signal: 'traces', note: NOTE, payload }]);
  });

  it('is taken in once more when it belongs to no trace', async () => {
    const logs = encodeLogs([{ logs: [{ eventName: 'login', attributes: { 'user.id': 'alice' } }] }]);
    frames.set('1/32', { signal: 'logs', payload: logs });
    const itemStart = logs.length - 100;
    const starts = Array.from({ length: logs.length }, (_, at) => ({ ...place(at), signal: 'logs' }));
    const id = await setAside('settle', `1/32/${itemStart}`, starts);
    expect((await ask<Results>('POST', `/retry?ids=${id}`)).body.results).toMatchObject([{ id, state: 'retried' }]);
    expect([repeated, appended.length]).toEqual([[], 1]);
  });

  it('stays with a reason when it is gone, cannot be read or is not said', async () => {
    frames.set('2/32', { signal: 'traces', payload: Buffer.from([10, 255]) });
    const cases: [string, unknown, RegExp][] = [
      ['3/32/1', [{ ...place(5), segment: 3 }], /cannot be settled again: segment 3 is gone/],
      ['2/32', [{ signal: 'traces', segment: 2, offset: 32 }], /its frame still cannot be read/],
      ['1/32/1', [place(1)], /not where it should be/],
      ['x', 'AA==', /does not say where its evidence lies/],
    ];
    for (const [subject, body, text] of cases) {
      const id = await setAside('decode', subject, body);
      const { results } = (await ask<Results>('POST', `/retry?ids=${id}`)).body;
      expect(results).toEqual([{ id, state: 'open', text: expect.stringMatching(text) }]);
    }
    expect((await ask('GET', '')).body.open).toBe(4);
  });

  it('stays open when it is set aside again before it is resolved', async () => {
    known.add(traceIdOf(1));
    const id = await setAside('settle', '1/32/9', [place(starts[0] ?? 0)]);
    known.has = (traceId) => {
      void quarantine.add([{ stage: 'settle', reason: 'no', id: '1/32/9', body: [place(starts[0] ?? 0)] }]);
      return traceId === traceIdOf(1);
    };
    expect((await ask<Results>('POST', `/retry?ids=${id}`)).body.results).toEqual([{ id, state: 'open', text: 'no' }]);
    expect((await ask('GET', '')).body.open).toBe(1);
  });
});
