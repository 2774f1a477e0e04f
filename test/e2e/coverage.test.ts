import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { RecordsAnswer } from '../../src/api/contract.ts';
import type { CoverageAnswer, ServiceCoverage } from '../../src/core/coverage.ts';
import { encodeLogs, encodeTraces, type TestSpan } from '../otlp/encode.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const START_MS = Date.now();

let folder: string;
let running: RunningProcess | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spantrail-coverage-'));
});
afterEach(async () => {
  await running?.stop('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

async function start(environment: Record<string, string> = {}): Promise<RunningProcess> {
  running = await startProcess(['--store', 'memory', '--data-dir', join(folder, 'data')], environment);
  return running;
}

/** Requests of a service, each a span of its own trace. */
function requests(service: string, instantsMs: readonly number[], fields: TestSpan = {}): Buffer {
  const spans = instantsMs.map((startMs) => ({
    traceId: randomBytes(16).toString('hex'),
    spanId: randomBytes(8).toString('hex'),
    name: 'GET /',
    kind: 2,
    startNs: BigInt(startMs) * 1_000_000n,
    endNs: BigInt(startMs + 20) * 1_000_000n,
    attributes: { 'http.request.method': 'GET', 'http.route': '/', 'http.response.status_code': 200 },
    ...fields,
  }));
  return encodeTraces([{ attributes: { 'service.name': service }, spans }]);
}

const sequence = (fromMs: number, count: number, stepMs: number) =>
  Array.from({ length: count }, (_, number) => fromMs + number * stepMs);

async function coverage(of: RunningProcess, parameters = ''): Promise<CoverageAnswer> {
  const response = await fetch(`http://127.0.0.1:${of.api}/api/v1/coverage${parameters}`);
  return (await response.json()) as CoverageAnswer;
}

/** A command as a user runs it, against the running process. */
async function run(...words: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, ['src/cli/spantrail.mjs', ...words], {
    env: { PATH: process.env['PATH'], SPANTRAIL_URL: `http://127.0.0.1:${running?.api}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, err] = ['', ''];
  child.stdout.on('data', (text) => {
    out += text;
  });
  child.stderr.on('data', (text) => {
    err += text;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, out, err };
}

const kindsOf = ({ gaps }: Pick<ServiceCoverage, 'gaps'>) => gaps.map(({ kind }) => kind);

describe('coverage of a running Spantrail', () => {
  it('names what senders leave out, and remembers it across stops and kills', async () => {
    let spantrail = await start();
    const recent = sequence(START_MS - 20 * MINUTE_MS, 20, MINUTE_MS);
    // Whole, sampled, gone silent, called by what is not heard.
    const whole = requests('whole', recent);
    await spantrail.send('traces', whole);
    await spantrail.send('traces', requests('sampled', recent, { traceState: 'ot=th:e666' }));
    await spantrail.send('traces', requests('quiet', sequence(START_MS - 6 * HOUR_MS, 40, 5 * MINUTE_MS)));
    await spantrail.send('traces', requests('orphaned', recent, { parentSpanId: 'aaaaaaaaaaaaaaaa' }));
    await spantrail.settled();

    const answer = await coverage(spantrail);
    const before = Object.fromEntries(answer.services.map((service) => [service.service, service]));
    expect(Object.keys(before)).toEqual(['orphaned', 'quiet', 'sampled', 'whole']);
    expect(before['whole']).toMatchObject({ spans: 20, roots: 20, gaps: [] });
    expect(before['sampled']).toMatchObject({
      sampling: { stated: 20, sampled: 20, probability_min: expect.closeTo(0.1, 4) },
      gaps: [{ kind: 'sampling', text: expect.stringMatching(/keeps only 1 in 10 of its spans/) }],
    });
    expect(before['quiet']?.gaps).toMatchObject([{ kind: 'silence', ongoing: true }]);
    expect(before['orphaned']).toMatchObject({
      missing_parents: { of: 20, same_process: 0, other_process: 20 },
      gaps: [{ kind: 'missing_parents' }],
    });
    // Every list of records says so, for the services and the time it is of.
    const found = await run('search', 'service.name: whole', '--from', '-1h');
    expect(found.err).toBe('spantrail: coverage: no gap observed (1 service)\n');
    const all = await run('search', '--limit', '1');
    expect(all.err).toMatch(/coverage: 3 gaps observed/);
    for (const name of ['sampled keeps only', 'quiet is silent', 'orphaned was called by'])
      expect(all.err).toContain(name);

    await spantrail.stop('SIGTERM');
    spantrail = await start();
    await spantrail.settled();
    const stopped = await coverage(spantrail);
    expect(stopped.services.map(({ service, spans }) => [service, spans])).toEqual(
      answer.services.map(({ service, spans }) => [service, spans]),
    );
    expect(stopped.services.map(kindsOf)).toEqual(answer.services.map(kindsOf));
    await spantrail.stop('SIGKILL');
    spantrail = await start({ SPANTRAIL_COVERAGE_DOWN_MS: '1ms' });
    await spantrail.settled();
    const killed = await coverage(spantrail);
    // What was stored before the kill is known to the journal: sent again, it changes nothing.
    await spantrail.send('traces', whole);
    await spantrail.settled();
    const sentAgain = await coverage(spantrail);
    for (const { services } of [killed, sentAgain]) {
      expect(services.map(({ service, spans }) => [service, spans])).toEqual(
        answer.services.map(({ service, spans }) => [service, spans]),
      );
    }
    expect(killed.services.map(kindsOf)).toEqual(answer.services.map(kindsOf));
    expect(killed.gaps.map(({ kind, text }) => [kind, /was stopped/.test(text)])).toEqual([
      ['down', false],
      ['down', true],
    ]);
  });

  it('takes back that a parent was missing when it comes', async () => {
    const spantrail = await start();
    const [traceId, parent] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')];
    await spantrail.send('traces', requests('orders', [START_MS], { traceId, parentSpanId: parent }));
    await spantrail.settled();
    expect((await coverage(spantrail)).services).toMatchObject([{ missing_parents: { of: 1, other_process: 1 } }]);
    await spantrail.send('traces', requests('gateway', [START_MS - 5], { traceId, spanId: parent, kind: 3 }));
    await spantrail.settled();
    expect((await coverage(spantrail)).services).toMatchObject([
      { service: 'gateway', roots: 1 },
      { service: 'orders', spans: 1, missing_parents: { of: 1, other_process: 0 } },
    ]);
  });

  it('counts evidence once, though it is sent again, and joins several threads', async () => {
    const spantrail = await start({ SPANTRAIL_WORKERS: '2' });
    const payload = requests('whole', sequence(START_MS - 30 * MINUTE_MS, 30, MINUTE_MS));
    for (let time = 0; time < 3; time++) {
      await spantrail.send('traces', payload);
      await spantrail.settled();
    }
    const log = { traceId: randomBytes(16).toString('hex'), timeNs: BigInt(START_MS) * 1_000_000n, body: 'hello' };
    await spantrail.send('logs', encodeLogs([{ attributes: { 'service.name': 'logger' }, logs: [log] }]));
    await spantrail.settled();
    expect((await coverage(spantrail)).services).toMatchObject([
      { service: 'logger', logs: 1, spans: 0 },
      { service: 'whole', spans: 30, gaps: [] },
    ]);
  });

  it('begins anew where a file is damaged, and says so', async () => {
    const first = await start();
    await first.send('traces', requests('whole', [START_MS - MINUTE_MS]));
    await first.settled();
    await first.stop();
    const files = join(folder, 'data/coverage');
    const day = readdirSync(files).find((name) => /^\d/.test(name)) ?? '';
    writeFileSync(join(files, day), 'torn');
    // However long the start takes on a busy machine, that is no gap here.
    const second = await start({ SPANTRAIL_COVERAGE_DOWN_MS: '1d' });
    expect(second.log()).toMatch(/a file of the coverage log could not be read and is put aside/);
    expect((await coverage(second)).gaps).toMatchObject([{ kind: 'unknown', text: expect.stringContaining(day) }]);
    expect(readdirSync(files)).toContain(`${day}.unreadable`);
  });

  it('names requests that it refused, also in doctor and in the metrics', async () => {
    const spantrail = await start({ SPANTRAIL_RECEIVE_MAX_REQUEST_BYTES: '2000' });
    await spantrail.send('traces', requests('whole', [START_MS]));
    expect(await spantrail.send('traces', requests('whole', sequence(START_MS, 30, 1)))).toBe(413);
    await spantrail.settled();
    // It looks at what was refused every few seconds.
    await vi.waitFor(
      async () => {
        expect((await coverage(spantrail)).gaps).toMatchObject([
          { kind: 'refused', text: 'Spantrail refused 1 request: what senders did not send again is missing' },
        ]);
        const metrics = await (await fetch(`http://127.0.0.1:${spantrail.api}/metrics`)).text();
        expect(metrics).toMatch(/^spantrail_coverage_gaps\{kind="refused".*\} 1$/m);
      },
      { timeout: 60_000, interval: 500 },
    );
    expect((await run('doctor', '--data-dir', join(folder, 'data'))).out).toMatch(
      /^note {2}coverage: gaps in the last 24 hours: 1 refused; "spantrail coverage" names them$/m,
    );
    expect((await run('search', 'service.name: whole')).err).toMatch(/coverage: 1 gap observed.*\n.*refused 1 request/);
  });

  it('holds what docs/coverage.md shows: an access event that stands by itself', async () => {
    const spantrail = await start();
    const page = readFileSync('docs/coverage.md', 'utf8');
    const body = /-d '(\{[\s\S]*?\})'\n/.exec(page)?.[1]?.replace(`'"$(date +%s%N)"'`, `${START_MS}000000`) ?? '';
    const response = await fetch(`http://127.0.0.1:${spantrail.http}/v1/logs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    expect(response.status).toBe(200);
    await spantrail.settled();
    expect((await spantrail.search('')).map(({ message }) => message)).toEqual(['alice did open-chart on patients/7']);
    expect((await coverage(spantrail)).services).toMatchObject([{ service: 'records', logs: 1, gaps: [] }]);
  });

  it('can be switched off', async () => {
    const spantrail = await start({ SPANTRAIL_COVERAGE_ENABLED: 'false' });
    await spantrail.send('traces', requests('whole', [START_MS]));
    await spantrail.settled();
    expect(await coverage(spantrail)).toMatchObject({ watching: false, services: [], gaps: [] });
    const records = await fetch(`http://127.0.0.1:${spantrail.api}/api/v1/records`);
    expect(((await records.json()) as RecordsAnswer).coverage).toMatchObject({ watching: false });
    expect((await run('coverage')).err).toBe('spantrail: coverage: not watched (coverage.enabled is false)\n');
    expect(readdirSync(join(folder, 'data'))).not.toContain('coverage');
  });
});
