import { createHmac, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, inject, it } from 'vitest';
import { type RunningProcess, startProcess } from './spantrail.ts';

/**
 * Secrets of every kind come in by every way. Then nothing of them may be in the data folder, in the store, in an answer or in a
 * log; values in statements may be in the write-ahead log and nowhere else.
 */
const elasticsearch = inject('elasticsearch')['9.5.0'];
const STORES = [
  { store: 'duckdb', url: undefined, skip: false },
  {
    store: 'elasticsearch',
    url: 'url' in elasticsearch ? elasticsearch.url : undefined,
    skip: 'skipped' in elasticsearch,
  },
] as const;

const run = randomBytes(5).toString('hex');
const secrets = new Set<string>();
const literals = new Set<string>();

/** A secret that tells by its name where it was planted. */
function secret(place: string): string {
  const value = `pl4nt-${place}-${run}`;
  secrets.add(value);
  return value;
}

/** A value in a statement or in what a database says of it. */
function literal(place: string): string {
  const value = `v4lue ${place} ${run}`;
  literals.add(value);
  return value;
}

const base64 = (text: string) => Buffer.from(text).toString('base64');

/** A signed token; its signature is the secret part. */
function token(place: string, subject = 'alice'): string {
  const content = [
    { alg: 'HS256', typ: 'JWT' },
    { sub: subject, iss: 'https://id.example' },
  ]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  const signature = createHmac('sha256', place + run)
    .update(content)
    .digest('base64url');
  secrets.add(signature);
  return `${content}.${signature}`;
}

type Value = string | number | boolean | Value[] | { [key: string]: Value };

function anyValue(value: Value): object {
  if (typeof value === 'string') return { stringValue: value };
  if (typeof value === 'number') return { intValue: String(value) };
  if (typeof value === 'boolean') return { boolValue: value };
  if (Array.isArray(value)) return { arrayValue: { values: value.map(anyValue) } };
  return { kvlistValue: { values: attributes(value) } };
}

function attributes(values: Readonly<Record<string, Value>>): object[] {
  return Object.entries(values).map(([key, value]) => ({ key, value: anyValue(value) }));
}

const traceId = randomBytes(16).toString('hex');
const serverSpan = randomBytes(8).toString('hex');
const clientSpan = randomBytes(8).toString('hex');
const now = () => String(BigInt(Date.now()) * 1_000_000n);

/** `rpc.metadata` and headers in both spellings; texts that are URLs, JSON, forms or prose. */
function spans(): object {
  const basic = base64(`bob:${secret('basic')}`);
  secrets.add(basic);
  const server = {
    ...{ traceId, spanId: serverSpan, kind: 2, startTimeUnixNano: now(), endTimeUnixNano: now() },
    name: `GET /orders?api_key=${secret('span-name')}`,
    attributes: attributes({
      'http.request.method': 'GET',
      'http.route': '/orders/{id}',
      'url.path': '/orders/7',
      'url.query': `access_token=${secret('query')}&page=2`,
      'http.response.status_code': 200,
      'http.request.header.authorization': [`Bearer ${token('bearer')}`],
      'http.request.header.x_amzn_oidc_data': [token('oidc')],
      'http.request.header.proxy-authorization': [`Basic ${basic}`],
      'http.request.header.cookie': [`sessionid=${secret('cookie')}; theme=dark`],
      'http.response.header.set_cookie': [`sid=${secret('set-cookie')}; HttpOnly`],
      'http.request.header.x-api-key': [secret('api-key-header')],
      'http.request.header.x-vault-token': [secret('vault-header')],
      'rpc.grpc.request.metadata.authorization': [`Bearer ${token('metadata')}`],
      'session.id': secret('session'),
      password: secret('attribute'),
      'signup.form.password': secret('dotted'),
      note: `started with DB_PASSWORD=${secret('prose')}, Pwd="${secret('quoted')}"`,
      form: { user: 'alice', passwd: secret('list'), nested: { client_secret: secret('nested-list') } },
      payload: JSON.stringify({ login: 'alice', password: secret('json-text'), deep: [{ id_token: token('json') }] }),
      pin: { secret: 471104711 },
    }),
    events: [
      {
        timeUnixNano: now(),
        name: 'exception',
        attributes: attributes({
          'exception.type': 'AuthError',
          'exception.message': `callback https://shop.example/cb?token=${secret('exception-url')} failed`,
          'exception.stacktrace': `AuthError: https://bob:${secret('url-password')}@db.example/x\n  at login`,
        }),
      },
    ],
    links: [{ traceId, spanId: clientSpan, attributes: attributes({ token: secret('link') }) }],
    status: { code: 2, message: `refused https://a.example/?signature=${secret('status-url')}` },
  };
  const statement = {
    ...{ traceId, spanId: clientSpan, parentSpanId: serverSpan, kind: 3 },
    ...{ startTimeUnixNano: now(), endTimeUnixNano: now(), name: 'INSERT orders' },
    attributes: attributes({
      'db.system.name': 'postgresql',
      'db.query.text': `insert into orders (card, note) values ('${literal('insert')}', $$${literal('dollar')}$$)`,
      'server.address': 'db',
      'db.connection_string': `postgres://app:${secret('connection')}@db/shop`,
    }),
    status: {
      code: 2,
      message: `duplicate key value violates "u": Key (card)=(${literal('duplicate')}) already exists.`,
    },
  };
  const resource = { attributes: attributes({ 'service.name': 'orders', api_key: secret('resource') }) };
  const scope = { name: 'sample', attributes: attributes({ password: secret('scope') }) };
  return { resourceSpans: [{ resource, scopeSpans: [{ scope, spans: [server, statement] }] }] };
}

function logs(): object {
  const bodies: Value[] = [
    `login ${JSON.stringify({ user: 'alice', password: secret('log-json') })}`,
    { user: 'alice', credentials: { access_token: secret('log-list') } },
    `GET /cb?code=${secret('log-query')} HTTP/1.1 authorization: Bearer ${token('log-prose')}`,
  ];
  const records = bodies.map((body) => ({
    timeUnixNano: now(),
    ...{ traceId, spanId: serverSpan },
    body: anyValue(body),
    attributes: attributes({ 'event.name': 'access.read', 'user.id': 'alice', 'session.id': secret('log-session') }),
  }));
  return { resourceLogs: [{ resource: {}, scopeLogs: [{ logRecords: records }] }] };
}

function metrics(): object {
  const point = { asInt: '1', timeUnixNano: now(), attributes: attributes({ password: secret('metric') }) };
  const metric = { name: 'db.client.connection.count', gauge: { dataPoints: [point] } };
  return { resourceMetrics: [{ scopeMetrics: [{ metrics: [metric] }] }] };
}

function events(): object {
  const statement = `update accounts set iban = '${literal('event')}' where id = 3`;
  return {
    events: [
      {
        ...{ id: `event-${run}`, time: new Date().toISOString(), actor: { id: 'alice' }, action: 'read' },
        ...{ target: { type: 'endpoint', id: `/cb?token=${secret('event-target')}` }, outcome: 'failure' },
        session_id: secret('event-session'),
        reason: `no consent, see https://a.example/?api_key=${secret('event-reason')}`,
        attributes: {
          password: secret('event-attribute'),
          'db.query.text': statement,
          'db.system.name': 'postgresql',
          'http.request.header.cookie': `sessionid=${secret('event-cookie')}`,
        },
        change: { before: { secret: secret('event-change') }, after: { name: 'a' } },
      },
    ],
  };
}

/** One line of Envoy's JSON access log as a webhook would send it. */
function envoy(): object {
  return {
    start_time: new Date().toISOString(),
    ...{ method: 'GET', response_code: 403, protocol: 'HTTP/1.1', 'user-agent': 'curl', authority: 'shop.example' },
    path: `/orders?token=${secret('webhook-query')}`,
    authorization: `Bearer ${token('webhook')}`,
    cookie: `sessionid=${secret('webhook-cookie')}`,
    password: secret('webhook-field'),
  };
}

async function post(port: number, path: string, body: object, headers: Record<string, string> = {}): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  expect([path, response.status, await response.text()]).toEqual([path, 200, expect.anything()]);
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** What of these is in the bytes, as it is or in base64 at any of its three phases. */
function found(bytes: Buffer, wanted: ReadonlySet<string>): string[] {
  return [...wanted].filter((text) => {
    const plain = Buffer.from(text);
    const forms = [0, 1, 2].map((phase) =>
      Buffer.concat([Buffer.alloc(phase), plain])
        .toString('base64')
        .slice(phase === 0 ? 0 : 4)
        .replace(/.{0,4}$/, ''),
    );
    return bytes.includes(plain) || forms.some((form) => form.length > 8 && bytes.includes(form));
  });
}

let victim: RunningProcess | undefined;
const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  await victim?.stop('SIGKILL');
  for (const cleanUp of cleanUps.splice(0)) cleanUp();
});

describe('planted secrets', () => {
  for (const { store, url, skip } of STORES) {
    it.skipIf(skip)(`are nowhere once they came in, on ${store}`, { timeout: 120_000 }, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'spantrail-planted-'));
      cleanUps.push(() => rmSync(folder, { recursive: true, force: true }));
      const namespace = `planted-${store}-${run}`;
      const args = ['--data-dir', folder, ...(url === undefined ? [] : ['--elasticsearch-url', url])];
      victim = await startProcess(args, {
        SPANTRAIL_NAMESPACE: namespace,
        SPANTRAIL_LOG_LEVEL: 'debug',
        // So that its bytes can be looked through; compressing keeps every byte.
        SPANTRAIL_WAL_COMPACTION: 'false',
      });
      await post(victim.http, '/v1/traces', spans());
      await post(victim.http, '/v1/logs', logs());
      await post(victim.http, '/v1/metrics', metrics());
      await post(victim.http, '/v1/access', events());
      await post(victim.http, '/v1/events/envoy', envoy(), { authorization: `Bearer ${secret('our-own-header')}` });
      await victim.settled();

      const { search } = victim;
      // Elasticsearch finds what was written a refresh later.
      await expect.poll(async () => (await search('', true)).length, { timeout: 20_000 }).toBeGreaterThanOrEqual(4);
      const records = await search('', true);
      expect(records.some(({ user }) => user?.id === 'alice')).toBe(true);
      expect(records.some(({ db }) => db?.statement?.startsWith('insert into orders'))).toBe(true);
      const everything = new Set([...secrets, ...literals]);
      const nothingIn = (place: string, bytes: Buffer, wanted = everything) =>
        expect([place, found(bytes, wanted)]).toEqual([place, []]);
      nothingIn('records', Buffer.from(JSON.stringify(records)));
      for (const path of ['pipeline', `traces/${traceId}`, 'quarantine']) {
        const response = await fetch(`http://127.0.0.1:${victim.api}/api/v1/${path}`);
        nothingIn(path, Buffer.from(await response.arrayBuffer()));
      }
      if (url !== undefined) {
        const documents = await fetch(`${url}/spantrail-*-${namespace}-*/_search?size=1000`);
        const bytes = Buffer.from(await documents.arrayBuffer());
        expect(bytes.length).toBeGreaterThan(4000);
        nothingIn('Elasticsearch', bytes);
      }

      expect(await victim.stop()).toBe(0);
      nothingIn('log', Buffer.from(victim.log()));
      const files = filesIn(folder);
      expect(files.length).toBeGreaterThan(3);
      let walBytes = 0;
      for (const file of files) {
        const bytes = readFileSync(file);
        const isLog = file.endsWith('.wal') && file.includes(`${folder}/wal/`);
        if (isLog) walBytes += bytes.length;
        nothingIn(file, bytes, isLog ? secrets : everything);
      }
      // What was looked through is what came in: the values of statements are in it.
      expect(walBytes).toBeGreaterThan(4000);
      const logBytes = Buffer.concat(files.filter((file) => file.endsWith('.wal')).map((file) => readFileSync(file)));
      expect(found(logBytes, literals).length).toBeGreaterThan(2);
    });
  }
});
