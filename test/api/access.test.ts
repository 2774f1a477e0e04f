import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { ROUTES } from '../../src/api/contract.ts';
import { openApiDocument } from '../../src/api/openapi.ts';
import type { ReadEvent } from '../../src/api/read-event.ts';
import { type Route, SESSION_ROUTES } from '../../src/api/route.ts';
import { createApi } from '../../src/api/server.ts';
import type { Permission } from '../../src/auth/principal.ts';
import { createToken } from '../../src/auth/token.ts';
import { AppError } from '../../src/core/errors.ts';
import { Counters } from '../../src/core/metrics.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { authenticatorFor, entryFor } from '../auth/openings.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';
import { apiNeeds } from './needs.ts';

/** Every route of the contract with every kind of credential, and what is recorded of it. */

const NOW = Date.parse('2026-11-22T12:00:00Z');
const HOUR_MS = 3_600_000;
const PERMISSIONS: readonly Permission[] = ['send', 'read', 'monitor', 'operate'];

const people = {
  ...Object.fromEntries(PERMISSIONS.map((can) => [can, entryFor({ name: `can-${can}`, can: [can] })])),
  expired: entryFor({ name: 'expired', can: [...PERMISSIONS], expiresAt: '2026-01-01' }),
  revoked: entryFor({ name: 'revoked', can: [...PERMISSIONS], revoked: true }),
  leaver: entryFor({ name: 'leaver', can: ['read'], expiresAt: '2027-11-22' }),
} as Record<string, ReturnType<typeof entryFor>>;

const bearer = (name: string) => `Bearer ${people[name]?.token}`;

let nowMs = NOW;
let recorded: ReadEvent[] = [];
let refuse: string | undefined;
/** What was done, and how much was recorded by then. */
let done: string[] = [];
let counters: Counters;
const api = { current: undefined as FastifyInstance | undefined };
const failures: unknown[] = [];
const store = new MemoryStore();

function served(): FastifyInstance {
  if (!api.current) throw new Error('not begun');
  return api.current;
}

beforeAll(async () => {
  await store.setUp();
  await store.write(['1', '2', '3'].map((digit) => toWrite(makeRecord({ event: { id: digit.repeat(32) } }))));
  const clock = { nowMs: () => nowMs };
  const needs = apiNeeds({ store, clock, reportFailure: (error) => failures.push(error) });
  const notThere = async () => {
    throw new AppError('not_found', 'there is none');
  };
  const note = (what: string) => void done.push(`${what} ${recorded.length}`);
  const counting = Object.assign(new Counters(), {
    add: (...given: Parameters<Counters['add']>) => counters.add(...given),
  });
  api.current = createApi({
    ...needs,
    coverage: {
      answer: () => ({ watching: true, to: '', services: [], gaps: [], text: '' }),
      summary: () => ({ watching: true, services: 0, gap_count: 0, gaps: [], text: '' }),
    },
    quarantine: {
      ...needs.quarantine,
      retry: async () => note('retry') ?? { results: [] },
      drop: async () => note('drop') ?? { results: [] },
    },
    alerts: { ...needs.alerts, setState: notThere, testChannel: notThere },
    reconcile: {
      run: async (_, emit) => {
        note('reconcile');
        await emit({ type: 'progress', step: 'x', records: 0 });
      },
    },
    access: {
      authenticator: await authenticatorFor(
        { tokens: Object.values(people).map(({ entry }) => entry) },
        { clock, counters: counting },
      ),
      counters: counting,
      async record(read) {
        if (refuse !== undefined) throw new AppError('unavailable', refuse);
        recorded.push(read);
      },
    },
  });
});

let hours = 0;
beforeEach(() => {
  // Far enough from the test before that no limit of it counts.
  nowMs = NOW + hours++ * 100 * HOUR_MS;
  [recorded, refuse, done, counters] = [[], undefined, [], new Counters()];
});
afterAll(async () => {
  await served().close();
  expect(failures).toEqual([]);
});

type Method = 'GET' | 'HEAD' | 'POST' | 'DELETE';

interface Call {
  readonly route: Route;
  readonly method: Method;
  readonly url: string;
}

/** A request that the contract takes. */
function callOf(route: Route, method: Method = route.method ?? 'GET'): Call {
  const schema = route.query ? z.toJSONSchema(route.query, { io: 'input' }) : { required: [] };
  const values: Record<string, string> = {
    ids: '0123456789abcdef',
    reason: 'of no use',
    note: 'seen',
    state: 'acknowledged',
  };
  const given = (schema.required ?? []).map((name) => [name, values[name] ?? 'x'] as const);
  const query = new URLSearchParams(Object.fromEntries(given)).toString();
  const path = route.path.replace(/\{\w+\}/g, '1'.repeat(32));
  return { route, method, url: query === '' ? path : `${path}?${query}` };
}

/** Answers that have no end are left after their first bytes. */
async function ask({ method, url }: Pick<Call, 'method' | 'url'>, headers: Record<string, string> = {}, body?: string) {
  const isEndless = url.startsWith('/api/v1/tail') && method === 'GET';
  const payload = body === undefined ? {} : { payload: body };
  if (!isEndless) return served().inject({ method, url, headers, ...payload });
  const response = await served().inject({ method, url, headers, payloadAsStream: true });
  if (response.statusCode !== 200) {
    let text = '';
    for await (const chunk of response.stream()) text += chunk;
    return { statusCode: response.statusCode, headers: response.headers, body: text };
  }
  response.raw.res.destroy();
  return { statusCode: 200, headers: response.headers, body: '' };
}

const CONTRACT = [...ROUTES, ...SESSION_ROUTES];
const GUARDED = CONTRACT.filter(({ needs }) => needs !== undefined);
const CALLS = GUARDED.flatMap((route) => (route.method ? [callOf(route)] : [callOf(route), callOf(route, 'HEAD')]));
const NAMED = CALLS.map((call) => [`${call.method} ${call.route.path}`, call] as const);

describe('the contract', () => {
  it('has all routes that the server has, and no others, and OpenAPI has those for programs', async () => {
    await served().ready();
    const lines = served().printRoutes({ commonPrefix: false }).split('\n');
    let above: string[] = [];
    const found = lines.flatMap((line) => {
      const [, indent = '', part = '', methods = ''] = /^([│ ├└─]*)(\S+)(?: \((.*)\))?$/.exec(line) ?? [];
      above = [...above.slice(0, Math.max(0, indent.length / 4 - 1)), part];
      return methods
        .split(', ')
        .filter(Boolean)
        .map((method) => `${method} ${above.join('')}`);
    });
    const written = CONTRACT.flatMap(({ method = 'GET', path }) => {
      const url = path.replace(/\{(\w+)\}/g, ':$1');
      return method === 'GET' ? [`GET ${url}`, `HEAD ${url}`] : [`${method} ${url}`];
    });
    expect(found.filter((route) => !written.includes(route))).toEqual([]);
    expect(written.filter((route) => !found.includes(route))).toEqual([]);
    const { paths } = openApiDocument('0') as { paths: Record<string, Record<string, { 'x-needs'?: string }>> };
    for (const { path, method = 'GET', needs } of ROUTES) {
      expect(paths[path]?.[method.toLowerCase()]?.['x-needs'], path).toBe(needs);
    }
  });

  it('guards everything but what says whether it lives, and the way in', () => {
    const open = CONTRACT.filter(({ needs }) => needs === undefined).map(({ path }) => path);
    expect(open.sort()).toEqual(['/healthz', '/login', '/logout', '/readyz']);
    const changing = CONTRACT.filter(({ method, needs }) => method !== undefined && needs !== undefined);
    expect(changing.map(({ needs }) => needs)).toEqual(changing.map(() => 'operate'));
    const unrecorded = GUARDED.filter(({ record }) => record === undefined).map(({ path }) => path);
    // None of these shows anybody's access.
    expect(
      unrecorded.filter((path) => !/^\/(?:metrics|api\/v1\/(?:pipeline|openapi\.json|insights))$/.test(path)),
    ).toEqual([]);
  });

  it('is asked for by a route that it does not know, at the start', () => {
    const fresh = createApi(apiNeeds({}));
    expect(() => fresh.get('/api/v1/secrets', async () => '')).toThrow(/contract/);
  });
});

const REFUSED = [
  ['missing', {}, 401, 0],
  ['malformed', { authorization: 'Basic YTpi' }, 401, 0],
  ['unknown', { authorization: `Bearer ${createToken()}` }, 401, 0],
  ['expired', { authorization: bearer('expired') }, 401, 1],
  ['revoked', { authorization: bearer('revoked') }, 401, 1],
] as const;

describe.each(NAMED)('%s', (_, call) => {
  const { route, method } = call;

  it.each(REFUSED)('is refused with a token that is %s', async (reason, headers, status, records) => {
    const response = await ask(call, headers);
    // The page asks who is there instead; it has nothing else in it.
    const isAsking = route.shell && reason === 'missing';
    expect(response.statusCode).toBe(isAsking ? 200 : status);
    if (route.shell && method === 'GET') expect(response.body).toMatch(/name="token"/);
    if (!route.shell) expect(response.headers['www-authenticate']).toMatch(/^Bearer/);
    expect(counters.total('unauthenticated', { reason })).toBe(isAsking ? 0 : 1);
    expect(recorded).toHaveLength(route.record ? records : 0);
    for (const read of recorded) {
      expect(read).toMatchObject({
        principal: { name: reason },
        decision: 'deny',
        outcome: 'failure',
        request: { status },
      });
    }
    expect(done).toEqual([]);
  });

  it.each(PERMISSIONS.filter((can) => can !== route.needs))('is refused to who can only %s', async (can) => {
    const response = await ask(call, { authorization: bearer(can) });
    expect(response.statusCode).toBe(403);
    if (method !== 'HEAD') expect(response.body).toContain(`can-${can} may not`);
    expect(counters.total('forbidden', { reason: 'permission' })).toBe(1);
    expect(recorded.map(({ decision, principal }) => [decision, principal.name])).toEqual(
      route.record ? [['deny', `can-${can}`]] : [],
    );
    expect(done).toEqual([]);
  });

  it('is answered to who can, and recorded before', async () => {
    const response = await ask(call, { authorization: bearer(route.needs ?? '') });
    expect([401, 403, 500, 503]).not.toContain(response.statusCode);
    const isStream = route.answers === 'sse' || route.answers === 'ndjson';
    if (!route.record) expect(recorded).toEqual([]);
    else if (!isStream && route.method === undefined) expect(recorded.map(({ phase }) => phase)).toEqual(['whole']);
    else await expect.poll(() => recorded.map(({ phase }) => phase)).toEqual(['start', 'end']);
    for (const read of recorded) {
      expect(read).toMatchObject({
        ...{ action: route.record?.action, decision: 'allow' },
        request: { route: route.path, method },
      });
    }
    if (route.method) expect(done.every((what) => what.endsWith(' 1'))).toBe(true);
  });

  it('is not answered when it cannot be recorded, and nothing is done', async () => {
    refuse = 'the disk is full';
    const response = await ask(call, { authorization: bearer(route.needs ?? '') });
    if (!route.record) return expect(response.statusCode).toBe(200);
    expect(response.statusCode).toBe(503);
    if (method !== 'HEAD') {
      expect(JSON.parse(response.body)).toEqual({ error: { code: 'unavailable', message: 'the disk is full' } });
    }
    expect(done).toEqual([]);
  });
});

describe('what is recorded', () => {
  const search = (query: string, name = 'read') =>
    ask({ method: 'GET', url: `/api/v1/records?${query}` }, { authorization: bearer(name), 'user-agent': 'vitest' });

  it('is what was asked, from where, and how many rows the answer held', async () => {
    await search('q=user.id%3A%20bob&from=-1h&inner=true&limit=2');
    await search('limit=2');
    const { next } = JSON.parse((await search('limit=2&inner=true')).body);
    await search(`limit=2&inner=true&cursor=${next}`);
    const [first] = recorded;
    expect(first).toMatchObject({
      target: {
        type: 'audit_records',
        id: 'user.id: bob',
        name: 'audit records where user.id: bob, from -1h, inner ones too',
      },
      request: {
        path: '/api/v1/records',
        query: 'q=user.id%3A%20bob&from=-1h&inner=true&limit=2',
        ip: '127.0.0.1',
        userAgent: 'vitest',
      },
      rows: 0,
      outcome: 'success',
    });
    expect(recorded.map(({ rows }) => rows)).toEqual([0, 2, 2, 1]);
    expect(recorded.at(-1)?.target.name).toBe('audit records, inner ones too, a further page');
    expect(recorded.at(1)?.target.id).toBe('*');
  });

  it('tells of records, traces and bad questions', async () => {
    const authorization = bearer('read');
    await ask({ method: 'GET', url: `/api/v1/records/${'1'.repeat(32)}` }, { authorization });
    await ask({ method: 'GET', url: `/api/v1/traces/${'a'.repeat(32)}` }, { authorization });
    await search('q=nobody.knows: x');
    expect(recorded.map(({ target, outcome, rows }) => [target.type, target.id, outcome, rows])).toEqual([
      ['audit_record', '1'.repeat(32), 'success', 1],
      ['trace', 'a'.repeat(32), 'failure', undefined],
      ['audit_records', 'nobody.knows: x', 'failure', undefined],
    ]);
    expect(recorded.at(-1)?.reason).toMatch(/no field "nobody.knows"/);
  });

  it('counts the rows of an export when it ends', async () => {
    const response = await ask({ method: 'GET', url: '/api/v1/export?format=csv' }, { authorization: bearer('read') });
    expect(response.body.trim().split('\r\n')).toHaveLength(4);
    await expect.poll(() => recorded.length).toBe(2);
    expect(recorded.map(({ phase, outcome, rows }) => [phase, outcome, rows])).toEqual([
      ['start', 'unknown', undefined],
      ['end', 'success', 3],
    ]);
  });

  it('keeps why something was given up, in the words of who did it', async () => {
    const url = '/api/v1/quarantine?ids=0123456789abcdef&reason=a+test+record';
    await ask({ method: 'DELETE', url }, { authorization: bearer('operate') });
    expect(recorded.map(({ phase, reason, target }) => [phase, reason, target.id])).toEqual([
      ['start', 'a test record', 'ids 0123456789abcdef'],
      ['end', 'a test record', 'ids 0123456789abcdef'],
    ]);
  });

  it('cannot be hidden behind white space or length', async () => {
    await search(`q=${'+'.repeat(9000)}message%3A+%22${'x'.repeat(9000)}%22`);
    const [read] = recorded;
    expect(read?.target.id).toMatch(/^message: "x+… \(9011 characters, SHA-256 [0-9a-f]{64}\)$/);
    expect(read?.request.query).toMatch(/… \(18\d\d\d characters, SHA-256 [0-9a-f]{64}\)$/);
  });

  it('is not filled by who tries again and again what they may not', async () => {
    for (let count = 0; count < 70; count++) await search('', 'send');
    expect(recorded).toHaveLength(60);
    expect(counters.total('reads_unrecorded', { reason: 'flood' })).toBe(10);
    await search('', 'read');
    expect(recorded).toHaveLength(61);
    nowMs += 61_000;
    await search('', 'send');
    expect(recorded).toHaveLength(62);
  });
});

describe('the page', () => {
  const form = { 'content-type': 'application/x-www-form-urlencoded' };
  const login = (name: string, next = '') =>
    ask(
      { method: 'POST', url: '/login' },
      form,
      new URLSearchParams({ token: people[name]?.token ?? 'x', next }).toString(),
    );
  const cookieOf = (response: { headers: Record<string, unknown> }) =>
    String(response.headers['set-cookie']).split(';')[0] ?? '';
  const page = (cookie: string, url = '/') => ask({ method: 'GET', url }, { cookie });

  it('shows nothing but a question to strangers', async () => {
    const { body, headers } = await ask({ method: 'GET', url: '/?q=%22%3E%3Cscript%3E' });
    expect(body).toContain('type="password"');
    expect(body).not.toContain('<script');
    expect(body).not.toContain('<li');
    expect(headers['content-security-policy']).toMatch(/default-src 'none'.*frame-ancestors 'none'/);
  });

  it('takes a token for a cookie that scripts and other sites cannot use, and goes on to what was asked', async () => {
    const entered = await login('read', 'q=user.id%3A+bob&evil=//example.com');
    expect(entered.statusCode).toBe(303);
    expect(entered.headers['location']).toBe('/?q=user.id%3A+bob');
    const set = String(entered.headers['set-cookie']);
    expect(set).toMatch(/^spantrail_session=[\w-]{43}; Path=\/; Max-Age=28800; HttpOnly; SameSite=Strict$/);
    expect(set).not.toContain(people['read']?.token);
    recorded = [];
    const { body, statusCode } = await page(cookieOf(entered));
    expect(statusCode).toBe(200);
    expect(body).toContain('can-read <button>Log out');
    expect(body.match(/<li class/g)).toHaveLength(3);
    expect(recorded).toMatchObject([
      { action: 'search', rows: 3, principal: { name: 'can-read' }, request: { route: '/' } },
    ]);
    expect((await page(cookieOf(entered), '/api/v1/records')).statusCode).toBe(200);
    expect((await ask({ method: 'GET', url: '/api/v1/tail' }, { cookie: cookieOf(entered) })).statusCode).toBe(200);
    await expect.poll(() => recorded.at(-1)).toMatchObject({ action: 'tail', phase: 'end' });
  });

  it('says what is wrong with a token', async () => {
    for (const [name, words, events] of [
      ['nobody', 'must be `Bearer`', 0],
      ['expired', 'has expired', 1],
      ['revoked', 'was revoked', 1],
    ] as const) {
      recorded = [];
      const { statusCode, body, headers } = await login(name);
      expect([statusCode, headers['set-cookie']]).toEqual([401, undefined]);
      expect(body).toContain(words);
      expect(recorded).toHaveLength(events);
    }
  });

  it('tells who may not read what they may not', async () => {
    const { statusCode, body } = await page(cookieOf(await login('monitor')));
    expect(statusCode).toBe(403);
    expect(body).toContain('can-monitor may not read records');
    expect(body).not.toContain('<li class');
  });

  it('forgets a session at log-out, when it is idle, after a day’s work, and with its token', async () => {
    const isOpen = async (cookie: string) => (await page(cookie, '/api/v1/records')).statusCode === 200;
    const out = cookieOf(await login('read'));
    const ended = await ask({ method: 'POST', url: '/logout' }, { cookie: out });
    expect([ended.statusCode, String(ended.headers['set-cookie'])]).toEqual([
      303,
      expect.stringContaining('Max-Age=0'),
    ]);
    expect(await isOpen(out)).toBe(false);
    const idle = cookieOf(await login('read'));
    nowMs += HOUR_MS / 2 - 1;
    expect(await isOpen(idle)).toBe(true);
    nowMs += HOUR_MS / 2 + 1;
    expect(await isOpen(idle)).toBe(false);
    const busy = cookieOf(await login('read'));
    for (let count = 0; count < 20; count++) {
      nowMs += (8 * HOUR_MS) / 20;
      expect(await isOpen(busy)).toBe(true);
    }
    nowMs += 1;
    expect(await isOpen(busy)).toBe(false);
    nowMs = Date.parse('2027-11-22') - 1000;
    const leaving = cookieOf(await login('leaver'));
    expect(await isOpen(leaving)).toBe(true);
    nowMs += 1000;
    expect(await isOpen(leaving)).toBe(false);
    expect(recorded.at(-1)).toMatchObject({ principal: { name: 'leaver' }, decision: 'deny' });
  });

  it('ends what it follows with the token', async () => {
    nowMs = Date.parse('2027-11-22') - 60_000;
    const cookie = cookieOf(await login('leaver'));
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    const response = await served().inject({ url: '/api/v1/tail', headers: { cookie }, payloadAsStream: true });
    let text = '';
    const ended = (async () => {
      for await (const chunk of response.stream()) text += chunk;
    })();
    vi.advanceTimersByTime(15_000);
    nowMs = Date.parse('2027-11-22');
    vi.advanceTimersByTime(15_000);
    vi.useRealTimers();
    await ended;
    expect(text).toBe(': following\n\n: keep-alive\n\n');
    await expect.poll(() => recorded.at(-1)).toMatchObject({ action: 'tail', phase: 'end', outcome: 'success' });
  });

  it('is not driven by other sites', async () => {
    const cookie = cookieOf(await login('operate'));
    recorded = [];
    const origin = 'https://evil.example';
    for (const [method, url, headers] of [
      ['POST', '/login', { ...form, origin }],
      ['POST', '/logout', { origin }],
      ['POST', '/api/v1/reconcile', { origin, cookie }],
      ['GET', '/api/v1/records', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors', cookie }],
      [
        'GET',
        '/',
        { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe', cookie },
      ],
    ] as const) {
      expect((await ask({ method, url }, { host: 'spantrail.example', ...headers })).statusCode).toBe(403);
    }
    expect([recorded, done]).toEqual([[], []]);
    const followed = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' };
    expect((await ask({ method: 'GET', url: '/' }, { ...followed, authorization: bearer('read') })).statusCode).toBe(
      200,
    );
  });

  it('begins no session for who can only send, who could end those of others by it', async () => {
    const answer = await login('send');
    expect([answer.statusCode, answer.headers['set-cookie']]).toEqual([403, undefined]);
    expect(answer.body).toContain('can-send may not read records');
    expect(recorded).toMatchObject([
      { action: 'login', decision: 'deny', outcome: 'failure', request: { status: 403 } },
    ]);
  });

  it.each(['{"token":{"a":1}}', '{"token":"x","next":[1]}', '[]', 'null'])('a login of %s is nobody', async (body) => {
    const answer = await ask({ method: 'POST', url: '/login' }, { 'content-type': 'application/json' }, body);
    expect([answer.statusCode, answer.headers['set-cookie']]).toEqual([401, undefined]);
  });
});

describe('where nobody is named', () => {
  it.each([
    ['attacker.example:4320', 403],
    ['localhost.attacker.example', 403],
    ['127.0.0.1.attacker.example:4320', 403],
    ['a b', 403],
    ['127.0.0.1:4320', 200],
    ['[::1]:4320', 200],
    ['192.0.2.7', 200],
    ['localhost:4320', 200],
    ['LOCALHOST', 200],
    ['page.localhost:4320', 200],
  ])('a name that leads here from elsewhere is not believed: %s', async (host, status) => {
    const open = createApi(apiNeeds({ store }));
    const guarded = createApi(apiNeeds({ store, isGuarded: true }));
    const call = { method: 'GET', url: '/api/v1/facets?fields=user.id', headers: { host } } as const;
    expect((await open.inject(call)).statusCode).toBe(status);
    expect((await guarded.inject(call)).statusCode).toBe(200);
    expect((await ask(call, { host, authorization: bearer('read') })).statusCode).toBe(200);
  });

  it('asks nobody and records nothing', async () => {
    const open = createApi({
      ...apiNeeds({ store }),
      access: { authenticator: await authenticatorFor({}), counters, record: async () => expect.unreachable() },
    });
    for (const { path } of ROUTES.filter(({ method, answers }) => method === undefined && answers !== 'sse')) {
      const { statusCode } = await open.inject({ method: 'GET', url: path.replace(/\{\w+\}/g, '1'.repeat(32)) });
      expect([401, 403, 503]).not.toContain(statusCode);
    }
    await open.close();
  });
});
