import { type Signal, SPAN_KIND } from '../../src/core/evidence.ts';
import { encodeLogs, encodeMetrics, encodeTraces, type TestLog, type TestSpan } from '../otlp/encode.ts';
import type { Random } from './random.ts';

/** One request of a sender. */
export interface Request {
  readonly number: number;
  /** When it is sent first, milliseconds after the start of the run. */
  readonly atMs: number;
  readonly signal: Signal;
  readonly payload: Buffer;
  readonly source: { transport: 'grpc' | 'http'; peer: string; namespace: string; browser: boolean };
  /** No message that it should be: refused for ever. */
  readonly isGarbage: boolean;
}

export interface WorkloadOptions {
  readonly random: Random;
  /** Wall clock of the run's start, epoch milliseconds. */
  readonly startMs: number;
  readonly durationMs: number;
  readonly traces: number;
  /** Spans of the few traces that are large. */
  readonly largeSpans: number;
  /** The longest that evidence comes after its neighbours. */
  readonly lateMaxMs: number;
}

type Content = { readonly span: TestSpan } | { readonly log: TestLog };

/** A span or log record, who states it, and when it is ready to be sent. */
interface Item {
  readonly content: Content;
  readonly service: string;
  readonly namespace: string;
  readonly readyMs: number;
  readonly isFromBrowser: boolean;
}

const SERVICES = ['gateway', 'orders', 'patients', 'billing'];
const USERS = ['alice', 'bob', 'carol', 'dave'];
const TABLES = ['orders', 'patients', 'visits'];
const PEERS = ['10.0.0.7', '10.0.0.8', '192.168.3.4'];
/** Requests hold the items of one signal that are ready within this time of each other. */
const BATCH_MS = 400;
const BATCH_ITEMS_MAX = 12;

/** Everything that is sent in a run, in the order of its times. */
export function planWorkload(options: WorkloadOptions): Request[] {
  const { random } = options;
  const items: Item[] = [];
  for (let number = 0; number < options.traces; number++) items.push(...planTrace(random, options));
  items.push(...planUntraced(random, options));
  const copies = items.filter(() => random.chance(0.06));
  for (const item of copies) items.push({ ...item, readyMs: item.readyMs + lateness(random, options.lateMaxMs) });
  const requests = batch(items, random);
  const again = requests.filter(() => random.chance(0.08)).map((request) => resent(request, random, options));
  const all = [...requests, ...again, ...planOddities(random, options)];
  all.sort((left, right) => left.atMs - right.atMs);
  return all.map((request, number) => ({ ...request, number }));
}

/** A few plain requests, each an access of its own, that a run ends with. */
export function planClosing(random: Random, startMs: number, atMs: number): Request[] {
  const startNs = BigInt(startMs + atMs) * 1_000_000n;
  const span = serverSpan(random, { traceId: random.hex(32), spanId: random.hex(16) }, startNs, 'gateway');
  const payload = encodeTraces([{ attributes: { 'service.name': 'gateway' }, spans: [span] }]);
  const source = { transport: 'grpc', peer: '10.0.0.7', namespace: 'default', browser: false } as const;
  return [{ number: -1, atMs, signal: 'traces', payload, source, isGarbage: false }];
}

function lateness(random: Random, lateMaxMs: number): number {
  const drawn = random.next();
  if (drawn < 0.8) return random.int(0, 1_500);
  return drawn < 0.94 ? random.int(1_500, Math.min(30_000, lateMaxMs)) : random.int(0, lateMaxMs);
}

interface Ids {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
}

function planTrace(random: Random, options: WorkloadOptions): Item[] {
  const traceId = random.hex(32);
  const namespace = random.chance(0.15) ? 'other' : 'default';
  const beginMs = random.int(0, options.durationMs);
  const isLarge = random.chance(0.05);
  const count = isLarge ? random.int(options.largeSpans, options.largeSpans * 2) : random.int(1, 9);
  const items: Item[] = [];
  const spanIds = Array.from({ length: count }, () => random.hex(16));
  const stated = (content: Content, service: string, afterMs: number, isFromBrowser = false) => {
    const readyMs = beginMs + afterMs + lateness(random, options.lateMaxMs);
    // A trace id may come up in two namespaces: those are two traces.
    const place = random.chance(0.02) ? 'other' : namespace;
    items.push({ content, service, namespace: place, readyMs, isFromBrowser });
  };
  spanIds.forEach((spanId, at) => {
    const parent = at === 0 ? undefined : random.chance(0.03) ? random.hex(16) : spanIds[random.int(0, at - 1)];
    const ids = { traceId, spanId, ...(parent === undefined ? {} : { parentSpanId: parent }) };
    const service = random.pick(SERVICES);
    const afterMs = at * random.int(1, 20);
    const startNs = BigInt(options.startMs + beginMs + afterMs) * 1_000_000n;
    const span = { ...planSpan(random, ids, startNs, service), ...planMore(random, startNs) };
    // Some spans never arrive, some come with two contents, some are claimed by somebody else, too.
    if (!random.chance(0.04)) stated({ span }, service, afterMs);
    if (random.chance(0.04)) stated({ span: { ...span, statusCode: 2, statusMessage: 'deadlock' } }, service, afterMs);
    if (random.chance(0.02)) stated({ span: serverSpan(random, ids, startNs, 'page') }, 'page', afterMs, true);
    for (let events = random.chance(0.2) ? random.int(1, 3) : 0; events > 0; events--)
      stated({ log: planLog(random, ids, startNs) }, service, afterMs);
  });
  if (random.chance(0.1)) {
    const log = planLog(random, { traceId, spanId: '' }, BigInt(options.startMs + beginMs) * 1_000_000n);
    stated({ log }, 'gateway', 0);
  }
  return items;
}

function planSpan(random: Random, ids: Ids, startNs: bigint, service: string): TestSpan {
  if (ids.parentSpanId === undefined) return serverSpan(random, ids, startNs, service);
  const drawn = random.next();
  if (drawn < 0.25) return serverSpan(random, ids, startNs, service);
  if (drawn < 0.55) {
    const table = random.pick(TABLES);
    const attributes = {
      'db.system.name': 'postgresql',
      'db.namespace': 'shop',
      'db.query.text': `SELECT * FROM ${table} WHERE id = ${random.int(1, 99)}`,
    };
    return { ...ids, name: `SELECT ${table}`, kind: SPAN_KIND.client, ...times(random, startNs), attributes };
  }
  const kind = random.pick([SPAN_KIND.client, SPAN_KIND.internal]);
  return { ...ids, name: 'work', kind, ...times(random, startNs), attributes: { step: random.int(1, 5) } };
}

function serverSpan(random: Random, ids: Ids, startNs: bigint, service: string): TestSpan {
  const isProbe = random.chance(0.06);
  const status = random.pick([200, 200, 200, 201, 403, 404, 500]);
  const attributes = {
    'http.request.method': random.pick(['GET', 'POST']),
    'url.path': isProbe ? '/healthz' : `/${service}/${random.int(1, 20)}`,
    ...(isProbe ? {} : { 'http.route': `/${service}/{id}` }),
    'http.response.status_code': status,
    ...(random.chance(0.7) ? { 'user.id': random.pick(USERS) } : {}),
    ...(random.chance(0.3) ? { 'http.request.header.authorization': `Bearer ${random.hex(24)}` } : {}),
  };
  const failed = status >= 500 ? { statusCode: 2, statusMessage: 'failed' } : {};
  return { ...ids, name: 'GET', kind: SPAN_KIND.server, ...times(random, startNs), attributes, ...failed };
}

/** What few spans have besides. */
function planMore(random: Random, startNs: bigint): Pick<TestSpan, 'events' | 'links' | 'traceState'> {
  if (!random.chance(0.1)) return {};
  const attributes = random.pick([{ 'exception.type': 'E', 'exception.message': 'it broke' }, { step: 1 }]);
  return {
    events: [{ name: 'exception', timeNs: startNs + BigInt(random.int(0, 1_000_000)), attributes }],
    links: [{ traceId: random.hex(32), spanId: random.hex(16) }],
    traceState: random.pick(['vendor=1', `dd=p:${random.hex(16)}`, 'ot=th:8']),
  };
}

function times(random: Random, startNs: bigint) {
  return { startNs, endNs: startNs + BigInt(random.int(0, 200_000_000)) };
}

function planLog(random: Random, ids: Ids, timeNs: bigint): TestLog {
  const at = { timeNs: timeNs + BigInt(random.int(0, 1_000_000)) };
  const { traceId, spanId } = ids;
  const place = { ...(traceId === '' ? {} : { traceId }), ...(spanId === '' ? {} : { spanId }) };
  if (random.chance(0.4)) return { ...place, ...at, body: `line ${random.int(1, 1000)}`, severityText: 'INFO' };
  const attributes = {
    'event.action': random.pick(['read', 'export', 'delete']),
    'user.id': random.pick(USERS),
    'audit.target.type': 'record',
    'audit.target.id': `r${random.int(1, 30)}`,
    'event.outcome': random.pick(['success', 'failure']),
  };
  return { ...place, ...at, eventName: 'access', attributes };
}

function planUntraced(random: Random, options: WorkloadOptions): Item[] {
  return Array.from({ length: random.int(0, options.traces) }, (): Item => {
    const readyMs = random.int(0, options.durationMs);
    const log = planLog(random, { traceId: '', spanId: '' }, BigInt(options.startMs + readyMs) * 1_000_000n);
    return { content: { log }, service: random.pick(SERVICES), namespace: 'default', readyMs, isFromBrowser: false };
  });
}

/** Items of one signal, namespace and kind of sender that are ready at about the same time go together. */
function batch(items: readonly Item[], random: Random): Request[] {
  const groups = new Map<string, Item[][]>();
  for (const item of [...items].sort((left, right) => left.readyMs - right.readyMs)) {
    const key = `${'span' in item.content} ${item.namespace} ${item.isFromBrowser}`;
    const batches = groups.get(key) ?? [];
    const last = batches.at(-1);
    const first = last?.[0];
    const fits = last !== undefined && first !== undefined && item.readyMs - first.readyMs <= BATCH_MS;
    if (fits && last.length < BATCH_ITEMS_MAX && random.chance(0.8)) last.push(item);
    else batches.push([item]);
    groups.set(key, batches);
  }
  return [...groups.values()].flat().map((group) => request(group, random));
}

function request(group: readonly Item[], random: Random): Request {
  const services = [...new Set(group.map(({ service }) => service))];
  const blocks = services.map((service) => {
    const contents = group.filter((item) => item.service === service).map(({ content }) => content);
    return {
      attributes: { 'service.name': service },
      spans: contents.flatMap((content) => ('span' in content ? [content.span] : [])),
      logs: contents.flatMap((content) => ('log' in content ? [content.log] : [])),
    };
  });
  const [first] = group;
  const isSpans = first !== undefined && 'span' in first.content;
  const browser = first?.isFromBrowser ?? false;
  return {
    number: 0,
    atMs: Math.max(...group.map(({ readyMs }) => readyMs)),
    signal: isSpans ? 'traces' : 'logs',
    payload: isSpans ? encodeTraces(blocks) : encodeLogs(blocks),
    source: {
      transport: browser ? 'http' : random.pick(['grpc', 'http']),
      peer: random.pick(PEERS),
      namespace: first?.namespace ?? 'default',
      browser,
    },
    isGarbage: false,
  };
}

/** As a Collector does that heard no answer; perhaps through another instance of it. */
function resent(request: Request, random: Random, options: WorkloadOptions): Request {
  const peer = random.pick([request.source.peer, random.pick(PEERS)]);
  const atMs = request.atMs + random.int(1, options.lateMaxMs);
  return { ...request, atMs, source: { ...request.source, peer } };
}

/** Metrics, requests of which some or all items are refused, and what is no request at all. */
function planOddities(random: Random, options: WorkloadOptions): Request[] {
  const source = { transport: 'http', peer: '10.0.0.9', namespace: 'default', browser: false } as const;
  const one = (signal: Signal, payload: Buffer, isGarbage = false): Request => ({
    ...{ number: 0, atMs: random.int(0, options.durationMs), signal, payload, source, isGarbage },
  });
  const startNs = BigInt(options.startMs) * 1_000_000n;
  const bad = serverSpan(random, { traceId: '0'.repeat(32), spanId: random.hex(16) }, startNs, 'odd');
  const good = serverSpan(random, { traceId: random.hex(32), spanId: random.hex(16) }, startNs, 'odd');
  const odd = [
    one('metrics', encodeMetrics([{ metrics: [{ name: 'load', points: [{ value: 1 }, { value: 2 }] }] }])),
    one('traces', encodeTraces([{ spans: [bad, good] }])),
    one('traces', encodeTraces([{ spans: [bad] }])),
    one('traces', Buffer.alloc(0)),
    one('logs', Buffer.from([0x0a, 0x7f, 0x01]), true),
  ];
  return odd.filter(() => random.chance(0.3));
}
