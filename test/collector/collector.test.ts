/** otel-collector-config.yaml, the file that people copy, as it is: two Spantrails behind it and another backend beside them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import { type Backend, expectEachOnce, post, type RunningCollector, startBackend, startCollector } from './run.ts';
import { ACCESSES_A_TRACE, acceptedOf, freePort, SPANS_A_TRACE, sendTraces, tracesRequest } from './traffic.ts';

const LAYERS = ['otel-collector-config.yaml'];
const collector = inject('collector');

describe.skipIf('skipped' in collector)('a Collector with otel-collector-config.yaml', () => {
  let folder: string;
  let spantrails: RunningProcess[];
  let backend: Backend;
  let otelcol: RunningCollector;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-collector-'));
    const start = (name: string) => startProcess(['--store', 'memory', '--data-dir', join(folder, name)]);
    spantrails = await Promise.all([start('first'), start('second')]);
    backend = await startBackend(folder);
    otelcol = await startCollector({
      layers: LAYERS,
      folder,
      environment: {
        SPANTRAIL_ENDPOINT: `127.0.0.1:${spantrails[0]?.grpc}`,
        SPANTRAIL_ENDPOINTS: `[${spantrails.map(({ grpc }) => `127.0.0.1:${grpc}`).join(',')}]`,
        BACKEND_EXPORTER: 'otlp_grpc/backend',
        BACKEND_ENDPOINT: backend.endpoint,
      },
    });
  });
  afterAll(async () => {
    await Promise.all([otelcol?.stop(), backend?.stop(), ...(spantrails ?? []).map((spantrail) => spantrail.stop())]);
    await rm(folder, { recursive: true, force: true });
  });

  const accepted = async (signal: string) =>
    (await Promise.all(spantrails.map((spantrail) => acceptedOf(spantrail, signal)))).reduce((sum, each) => sum + each);

  /** What the Spantrails have in all, once as much as was sent has come. */
  async function found(q: string, spans: number) {
    await expect.poll(() => accepted('traces'), { timeout: 60_000, interval: 100 }).toBeGreaterThanOrEqual(spans);
    await Promise.all(spantrails.map((spantrail) => spantrail.settled()));
    return Promise.all(spantrails.map((spantrail) => spantrail.search(q)));
  }

  it('brings everything to the Spantrails, each trace to one, and everything once to the other backend', async () => {
    const traces = 1000;
    const spans = traces * SPANS_A_TRACE;
    await sendTraces(otelcol.url, 'through', traces);
    const [first = [], second = []] = await found('service.name: through', spans);
    // Nothing was given up. A batch that was late is sent again, which a Spantrail counts and takes for what it is.
    expect(await otelcol.log()).not.toMatch(/[Dd]ropp|permanent|no more retries|\terror\t/);
    const ids = [...first, ...second].map(({ event }) => event.id);
    expect(ids).toHaveLength(traces * ACCESSES_A_TRACE);
    expect(new Set(ids).size).toBe(ids.length);
    // Both have a good part, and no trace is torn apart.
    const shares = [first, second].map((records) => new Set(records.map(({ trace }) => trace?.id)));
    for (const share of shares) expect(share.size).toBeGreaterThan(traces / 4);
    expect([...(shares[0] ?? [])].filter((trace) => shares[1]?.has(trace))).toEqual([]);
    expect([...first, ...second].filter(({ audit }) => audit.join.state !== 'complete')).toEqual([]);
    await expectEachOnce(backend, spans);
  });

  it('brings log records to the Spantrail that has their trace, and metrics to the first', async () => {
    const before = [await accepted('logs'), await accepted('metrics')];
    const numbers = Array.from({ length: 40 }, (_, number) => number);
    const request = tracesRequest('told', numbers) as Traces;
    expect(await post(otelcol.url, 'traces', request)).toBe(200);
    const [{ resource, scopeSpans } = EMPTY] = request.resourceSpans;
    const roots = (scopeSpans[0]?.spans ?? []).filter(({ kind }) => kind === 2);
    const logRecords = roots.map(({ traceId, spanId }) => ({ ...ACCESS, traceId, spanId }));
    expect(await post(otelcol.url, 'logs', { resourceLogs: [{ resource, scopeLogs: [{ logRecords }] }] })).toBe(200);
    expect(
      await post(otelcol.url, 'metrics', { resourceMetrics: [{ resource, scopeMetrics: [{ metrics: [POOL] }] }] }),
    ).toBe(200);
    await expect.poll(() => accepted('logs'), { timeout: 30_000 }).toBe((before[0] ?? 0) + numbers.length);
    await expect.poll(() => accepted('metrics'), { timeout: 30_000 }).toBe((before[1] ?? 0) + 1);
    const told = async () =>
      (await Promise.all(spantrails.map((each) => each.search('event.action: open-chart')))).flat();
    // An event that came before its span gets it when that is there, if both are at the same Spantrail.
    const joined = async () => (await told()).filter(({ audit }) => audit.join.state === 'complete').length;
    await expect.poll(joined, { timeout: 30_000, interval: 200 }).toBe(numbers.length);
    const records = await told();
    expect(records).toHaveLength(numbers.length);
    for (const { http } of records) expect(http?.request?.method).toBe('GET');
    await expect.poll(() => backend.text(), { timeout: 10_000 }).toContain('db.client.connection.count');
    expect(await backend.text()).toContain('open-chart');
  });

  it('brings lines of access logs to the Spantrail that has the trace in their text', async () => {
    const request = tracesRequest(
      'behind',
      Array.from({ length: 40 }, (_, number) => number),
    ) as Traces;
    expect(await post(otelcol.url, 'traces', request)).toBe(200);
    const roots = request.resourceSpans
      .flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
      .filter(({ kind }) => kind === 2);
    const lines = roots.map(({ traceId, spanId }, index) => ({
      ...{
        time_iso8601: '2026-11-20T09:50:00+00:00',
        msec: '1795168200.250',
        remote_addr: '203.0.113.7',
        remote_user: 'alice',
      },
      ...{
        request: `GET /patients/${index} HTTP/1.1`,
        status: '200',
        request_time: '0.050',
        request_id: `r-${index}`,
        host: 'door.example',
      },
      traceparent: `00-${traceId}-${spanId}-01`,
    }));
    const logRecords = lines.map((line) => ({
      timeUnixNano: '1795168200250000000',
      body: { stringValue: JSON.stringify(line) },
    }));
    const resource = { attributes: [text('service.name', 'door')] };
    expect(await post(otelcol.url, 'logs', { resourceLogs: [{ resource, scopeLogs: [{ logRecords }] }] })).toBe(200);
    const tracesOf = async (spantrail: RunningProcess, q: string) =>
      new Set((await spantrail.search(q)).map(({ trace }) => trace?.id));
    const both = async () => {
      const parts = spantrails.map(async (spantrail) => {
        const own = await tracesOf(spantrail, 'service.name: behind');
        return [...(await tracesOf(spantrail, 'audit.evidence.source: nginx*'))].filter((trace) => own.has(trace))
          .length;
      });
      return (await Promise.all(parts)).reduce((sum, part) => sum + part, 0);
    };
    await expect.poll(both, { timeout: 30_000, interval: 200 }).toBe(lines.length);
  });

  it('lets no secrets through, to neither', async () => {
    const secrets = {
      token: ['eyJhbGciOiJSUzI1NiJ9', 'eyJzdWIiOiJ1LTE3In0', 'c2lnbmF0dXJlLXRoYXQtbm9ib2R5LW1hZGU'].join('.'),
      query: 'q-5d41402abc4b2a76',
      header: 'h-7d793037a0760186',
      cloud: ['AKIA', 'QWERTYUIOPASDFGH'].join(''),
      body: 'b-098f6bcd4621d373',
    };
    const traceId = 'd'.repeat(32);
    const attributes = [
      text('http.request.method', 'GET'),
      text('url.path', '/patients/7'),
      text('url.query', `ward=3&access_token=${secrets.query}&page=2`),
      text('note', `was ${secrets.token} and ${secrets.cloud} there`),
      { key: 'http.request.header.x-api-key', value: { arrayValue: { values: [{ stringValue: secrets.header }] } } },
      {
        key: 'http.request.header.authorization',
        value: { arrayValue: { values: [{ stringValue: `Bearer ${secrets.token}` }] } },
      },
      text('db.query.text', "SELECT 1 /*traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/"),
    ];
    const times = { startTimeUnixNano: '1795000000000000000', endTimeUnixNano: '1795000000001000000' };
    const span = { traceId, spanId: 'e'.repeat(16), name: 'GET', kind: 2, ...times, attributes };
    const resource = { attributes: [text('service.name', 'careless')] };
    const log = {
      timeUnixNano: times.startTimeUnixNano,
      body: { stringValue: `login with password=${secrets.body} failed` },
    };
    expect(await post(otelcol.url, 'traces', { resourceSpans: [{ resource, scopeSpans: [{ spans: [span] }] }] })).toBe(
      200,
    );
    expect(await post(otelcol.url, 'logs', { resourceLogs: [{ resource, scopeLogs: [{ logRecords: [log] }] }] })).toBe(
      200,
    );
    await expect.poll(() => backend.text(), { timeout: 30_000 }).toContain('login with ****');
    await expect.poll(() => backend.text(), { timeout: 30_000 }).toContain(traceId);
    const kept = await backend.text();
    for (const secret of Object.values(secrets)) expect(kept).not.toContain(secret);
    // What is no secret is as it was: what the token claims, the rest of the query, the request that the statement is for.
    expect(kept).toContain('u-17');
    expect(kept).toContain('ward=3&****&page=2');
    expect(kept).toContain('00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01');
    await expect
      .poll(
        async () => (await Promise.all(spantrails.map((each) => each.search(`trace.id: ${traceId}`)))).flat().length,
        { timeout: 30_000 },
      )
      .toBe(1);
  });
});

describe.skipIf('skipped' in collector)('a Collector whose queue for Spantrail is full', () => {
  it.each([
    ['otel-collector-config.yaml', { SPANTRAIL_QUEUE_BYTES: '60000' }, 'load_balancing/spantrail'],
    ['deploy/collector/fragment.yaml', {}, 'otlp_grpc/spantrail'],
  ])(
    'with %s gives the other backend every span exactly once, and Spantrail what fitted',
    async (file, sizes, exporter) => {
      const folder = await mkdtemp(join(tmpdir(), 'spantrail-collector-full-'));
      const backend = await startBackend(folder);
      const port = await freePort();
      // The fragment's queue has room for 1,000 batches: here two, so that it is full within the test.
      const small = `yaml:exporters::otlp_grpc/spantrail::sending_queue::queue_size: 2`;
      const layers = file === 'otel-collector-config.yaml' ? [file] : [`yaml:${TEAMS_OWN}`, file, small];
      const otelcol = await startCollector({
        layers,
        folder,
        environment: {
          ...{ SPANTRAIL_ENDPOINT: `127.0.0.1:${port}`, BACKEND_EXPORTER: 'otlp_grpc/backend' },
          ...{ BACKEND_ENDPOINT: backend.endpoint, ...sizes },
        },
        withMetrics: true,
      });
      let spantrail: RunningProcess | undefined;
      try {
        const dropped = async () =>
          metricOf(await otelcol.metrics(), 'otelcol_exporter_enqueue_failed_spans', exporter);
        let traces = 0;
        // On and on, until it is full and for a while after that; nobody is refused.
        for (let fullFor = 0; fullFor < 5; traces += 100) {
          await sendTraces(otelcol.url, 'away', 100, traces);
          await expect
            .poll(async () => (await backend.spans()).size, { timeout: 30_000, interval: 50 })
            .toBe((traces + 100) * SPANS_A_TRACE);
          if ((await dropped()) > 0) fullFor += 1;
        }
        await expectEachOnce(backend, traces * SPANS_A_TRACE);
        const lost = await dropped();
        // It comes back and gets all the rest; what is lost is what was counted.
        spantrail = await startProcess([
          '--store',
          'memory',
          '--data-dir',
          join(folder, 'data'),
          '--grpc-port',
          String(port),
        ]);
        const running = spantrail;
        const indexed = async (service: string) => (await running.search(`service.name: ${service}`)).length;
        // A batch holds whole traces, and so does what was lost.
        const kept = ((traces * SPANS_A_TRACE - lost) / SPANS_A_TRACE) * ACCESSES_A_TRACE;
        await expect.poll(() => indexed('away'), { timeout: 60_000, interval: 200 }).toBe(kept);
        // One request: it must fit into a queue that is so small.
        await sendTraces(otelcol.url, 'again', 20);
        await expect.poll(() => indexed('again'), { timeout: 60_000, interval: 200 }).toBe(20 * ACCESSES_A_TRACE);
        await expectEachOnce(backend, (traces + 20) * SPANS_A_TRACE);
        process.stdout.write(
          `${file}: ${traces * SPANS_A_TRACE} spans while Spantrail was away, ${lost} of them dropped and counted\n`,
        );
      } finally {
        await Promise.all([otelcol.stop(), backend.stop(), spantrail?.stop()]);
        await rm(folder, { recursive: true, force: true });
      }
    },
  );
});

/** What a team has before: its services' spans to its own tool. */
const TEAMS_OWN = `
receivers:
  otlp:
    protocols: { grpc: { endpoint: "\${env:COLLECTOR_GRPC_ENDPOINT}" }, http: { endpoint: "\${env:COLLECTOR_HTTP_ENDPOINT}" } }
exporters:
  otlp_grpc/tool: { endpoint: "\${env:BACKEND_ENDPOINT}", tls: { insecure: true } }
service:
  pipelines:
    traces: { receivers: [otlp], exporters: [otlp_grpc/tool] }
`;

interface Traces {
  readonly resourceSpans: readonly {
    readonly resource: object;
    readonly scopeSpans: readonly {
      readonly spans: readonly { readonly traceId: string; readonly spanId: string; readonly kind: number }[];
    }[];
  }[];
}

const EMPTY = { resource: {}, scopeSpans: [] };

const ACCESS = {
  eventName: 'patient.access',
  timeUnixNano: '1795000000000000000',
  attributes: [
    text('user.id', 'alice'),
    text('event.action', 'open-chart'),
    text('event.outcome', 'success'),
    text('audit.target.type', 'patient'),
    text('audit.target.id', 'patients/7'),
  ],
};

const POOL = {
  name: 'db.client.connection.count',
  gauge: { dataPoints: [{ timeUnixNano: '1795000000000000000', asInt: '9' }] },
};

function text(key: string, stringValue: string): object {
  return { key, value: { stringValue } };
}

/** A counter's value for one exporter; 0 while there is none. */
function metricOf(metrics: string, name: string, exporter: string): number {
  const lines = metrics.split('\n').filter((line) => line.startsWith(name) && line.includes(`exporter="${exporter}"`));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}
