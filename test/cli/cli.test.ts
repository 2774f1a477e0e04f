import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { settingsExample, settingsMarkdown } from '../../src/config/describe.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { explicitEvent, makeTrace, makeTraces } from '../e2e/clinic-evidence.ts';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import { encodeTraces, type TestSpan } from '../otlp/encode.ts';

/** The command line as a user runs it, against one real server. */

let folder: string;
let running: RunningProcess;
let empty: RunningProcess;
let records: AuditRecord[];
let refused: AuditRecord;

const REFUSED_TRACE = '0af7651916cd43dd8448eb211c80319c';
const START_NS = BigInt(Date.now() - 60_000) * 1_000_000n;
const NANOS_PER_MILLI = 1_000_000n;

/** An order that the database refuses, of a user whose name would clear the screen. */
function refusedRequest(): Buffer {
  const span = (number: number, name: string, kind: number, more: TestSpan): TestSpan => ({
    traceId: REFUSED_TRACE,
    spanId: `00000000000000a${number}`,
    ...(number > 1 && { parentSpanId: `00000000000000a${number - 1}` }),
    name,
    kind,
    startNs: START_NS + BigInt(number) * NANOS_PER_MILLI,
    endNs: START_NS + BigInt(90 - number) * NANOS_PER_MILLI,
    ...more,
  });
  const http = { 'http.request.method': 'POST', 'http.route': '/orders', 'http.response.status_code': 403 };
  const user = { 'http.request.header.x-forwarded-user': ['mallory\u001b[2J\u009b31m\u202e'] };
  const sql = { 'db.system.name': 'postgresql', 'db.query.text': 'INSERT INTO orders VALUES ($1)' };
  const failed = { statusCode: 2, statusMessage: 'permission denied\u001b]0;owned\u0007' };
  return encodeTraces([
    {
      attributes: { 'service.name': 'gateway' },
      spans: [span(1, 'POST /orders', 2, { attributes: { ...http, ...user } })],
    },
    {
      attributes: { 'service.name': 'orders' },
      spans: [
        span(2, 'check\u001b[1A', 1, {}),
        span(3, 'INSERT orders', 3, { ...failed, attributes: { ...sql, 'db.response.status_code': '42501' } }),
      ],
    },
  ]);
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'spantrail-cli-'));
  const start = (name: string) => startProcess(['--store', 'memory', '--data-dir', join(folder, name)]);
  [running, empty] = await Promise.all([start('data'), start('empty')]);
  const [first, ...others] = makeTraces(4);
  if (!first) throw new Error('no trace');
  for (const { payload } of [first, ...others]) await running.send('traces', payload);
  await running.send('traces', refusedRequest());
  await running.settled();
  await running.send('logs', explicitEvent(first));
  await running.settled();
  records = await running.search('');
  const found = records.find((record) => record.trace?.id === REFUSED_TRACE && record.audit.entry);
  if (!found) throw new Error(`no refusal in ${JSON.stringify(records)}`);
  refused = found;
});
afterAll(async () => {
  await Promise.all([running?.stop('SIGKILL'), empty?.stop('SIGKILL')]);
  rmSync(folder, { recursive: true, force: true });
});

/** What is said beside lists of records when nothing is known to be missing. */
const NO_GAP = expect.stringMatching(
  /(^|\n)spantrail: coverage: no gap observed since \d{4}-\d\d-\d\d \d\d:\d\dZ \(\d services?\)\n$/,
);

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

interface RunOptions {
  readonly environment?: Record<string, string>;
  /** Called with what is written so far; answering true sends SIGINT. */
  readonly interrupt?: (out: string, err: string) => boolean;
}

async function run(line: readonly string[], { environment = {}, interrupt }: RunOptions = {}): Promise<Ended> {
  const child = spawn(process.execPath, ['src/cli/spantrail.mjs', ...line], {
    // Compiled once for all of them.
    env: {
      NODE_COMPILE_CACHE: join(folder, 'cache'),
      PATH: process.env['PATH'],
      SPANTRAIL_URL: `http://127.0.0.1:${running.api}`,
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, err] = ['', ''];
  const look = () => interrupt?.(out, err) && child.kill('SIGINT');
  child.stdout.setEncoding('utf8').on('data', (text) => {
    out += text;
    look();
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    err += text;
    look();
  });
  const [code] = (await once(child, 'close')) as [number | null];
  // Whatever it says: no stack, no escape, nothing that could steer a terminal. A piped export is exact to the letter.
  expect(err).not.toMatch(/\n\s+at .+:\d+/);
  expect(line[0] === 'export' ? err : out + err).not.toMatch(/[^\n\t\P{Cc}]|\u202e/u);
  return { code, out, err };
}

describe('search', () => {
  it('shows entries as sentences with their ids, newest first', async () => {
    const { code, out, err } = await run(['search']);
    const lines = out.trimEnd().split('\n');
    expect({ code, err, count: lines.length }).toEqual({ code: 0, err: NO_GAP, count: 5 });
    expect(lines.at(-1)).toMatch(/ {2}refused {2}mallory.* was refused POST /);
    expect(lines.at(-1)?.endsWith(refused.event.id.slice(0, 12))).toBe(true);
    expect(lines.toSorted().toReversed()).toEqual(lines);
  });

  it('with --json, --inner, --limit and --sort gives whole documents in the order asked for', async () => {
    const words = ['search', 'user.id: alice', '--inner', '--json', '--limit', '3', '--sort', '@timestamp:asc'];
    const { code, out } = await run(words);
    const times = out
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as AuditRecord)['@timestamp']);
    const expected = records.filter((record) => record.user?.id === 'alice').map((record) => record['@timestamp']);
    expect(code).toBe(0);
    expect(times).toEqual(expected.toSorted().slice(0, 3));
  });

  it('says that there is more than the limit', async () => {
    const { err } = await run(['search', '--limit', '2']);
    expect(err).toMatch(/more than 2 fit; --limit shows more/);
  });

  it.each([
    ['user.idd: x', 1, /did you mean user\.id\?/],
    ['event.outcome: failure and (user.id: ', 38, /a value for user\.id is missing/],
  ])('of %s shows the mistake with a caret under it', async (query, column, message) => {
    const { code, out, err } = await run(['search', query]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(message);
    expect(err.split('\n').slice(-3)).toEqual([`  ${query}`, `  ${' '.repeat(column - 1)}^`, '']);
  });

  it.each([
    ['nothing fits', ['user.id: nobody', '--inner']],
    ['no entry fits, but inner accesses do: add --inner', ['db.system: postgresql', 'and', 'user.id: alice']],
  ])('says: %s', async (message, words) => {
    const { code, out, err } = await run(['search', ...words]);
    expect({ code, out, first: err.split('\n')[0] }).toEqual({ code: 0, out: '', first: `spantrail: ${message}` });
    expect(err).toEqual(NO_GAP);
  });

  it('of an empty store says how evidence gets in; as JSON it is just empty', async () => {
    const url = ['--url', `http://127.0.0.1:${empty.api}`];
    expect(await run(['search', ...url])).toMatchObject({
      code: 0,
      err: expect.stringMatching(/OTLP port 4317.*\nspantrail: coverage: no evidence of any service since /),
    });
    expect(await run(['search', '--json', ...url])).toEqual({ code: 0, out: '', err: '' });
  });
});

describe.concurrent('show', () => {
  it('finds a record by its id or the digits of a list, in any case', async () => {
    const { code, out } = await run(['show', refused.event.id.slice(0, 12).toUpperCase()]);
    expect(code).toBe(0);
    expect(out).toMatch(/who {2}mallory.*known from header, not verified/);
    expect(out).toMatch(/why {2}permission denied/);
    expect(out).toContain(`record  ${refused.event.id}, revision 1`);
    expect(JSON.parse((await run(['show', refused.event.id, '--json'])).out)).toEqual(refused);
  });

  it('shows every state with --revisions, oldest first', async () => {
    const revised = records.find((record) => record.event.action === 'open-chart');
    const { out } = await run(['show', revised?.event.id ?? '', '--revisions', '--json']);
    const states = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as AuditRecord);
    expect(states.map((state) => [state.audit.revision, state.event.action])).toEqual([
      [1, 'GET'],
      [2, 'open-chart'],
    ]);
  });

  it.each([
    ['f'.repeat(32), 3, /no record with id f{32}/],
    ['ffffffff', 3, /starts with ffffffff/],
    ['abc', 2, /at least 6 digits/],
    ['patients/7', 3, /no record id: those are 32 hex digits/],
  ])('%s is not found', async (id, code, message) => {
    expect(await run(['show', id])).toMatchObject({ code, out: '', err: expect.stringMatching(message) });
  });
});

describe.concurrent('trace', () => {
  it('draws the waterfall from the evidence, accesses and the refusal marked', async () => {
    const { code, out } = await run(['trace', REFUSED_TRACE]);
    const [head, ...bars] = out.trimEnd().split('\n');
    expect(code).toBe(0);
    expect(head).toMatch(/^trace 0af\S+: 3 spans, 88 ms, 2 accesses$/);
    expect(bars[0]).toMatch(/^gateway POST \/orders +━+ +88 ms {2}✗ REFUSED POST /);
    expect(bars[1]).toMatch(/^ {2}orders check\ufffd\[1A +━+ +86 ms$/);
    expect(bars[2]).toMatch(/^ {4}orders INSERT orders +━+ +84 ms {2}✗ REFUSED INSERT .*permission denied/);
    const alice = await run(['trace', records.find((record) => record.user?.id === 'alice')?.event.id ?? '']);
    expect(alice.out).toMatch(/● \S+ \S+ by alice/);
  });

  it('marks nothing twice and finds the trace by a record, and says when there is none', async () => {
    const { out } = await run(['trace', refused.event.id.slice(0, 8), '--json']);
    expect(JSON.parse(out)).toMatchObject({ trace_id: REFUSED_TRACE, drawn_from: 'evidence' });
    expect(await run(['trace', 'e'.repeat(32)])).toMatchObject({
      code: 3,
      err: expect.stringMatching(/no record of trace/),
    });
  });
});

describe('tail', () => {
  it('follows what fits and ends on Ctrl-C with 0', async () => {
    let sent = false;
    const { code, out, err } = await run(['tail', 'audit.target.id: "patients/4711"', '--json'], {
      interrupt: (seen, said) => {
        if (!sent && said.includes('following')) {
          sent = true;
          void running.send('traces', makeTrace(4711).payload);
        }
        return seen.includes('\n');
      },
    });
    expect({ code, err }).toEqual({ code: 0, err: 'spantrail: following; Ctrl-C ends\n' });
    expect((JSON.parse(out) as AuditRecord).audit.target.id).toBe('patients/4711');
  });

  it('of a bad query shows the mistake', async () => {
    expect(await run(['tail', 'nope: x'])).toMatchObject({
      code: 2,
      err: expect.stringMatching(/\n {2}nope: x\n {2}\^\n/),
    });
  });
});

describe.concurrent('export', () => {
  const wanted = ['export', `trace.id: ${REFUSED_TRACE}`, '--inner'];

  it('streams NDJSON, oldest first', async () => {
    const { code, out } = await run(['export', 'event.outcome: failure', '--inner']);
    expect(code).toBe(0);
    expect(
      out
        .trimEnd()
        .split('\n')
        .map((line) => (JSON.parse(line) as AuditRecord).span?.id),
    ).toEqual(['00000000000000a1', '00000000000000a3']);
  });

  it('writes a file that only its owner reads, also over one that others could read', async () => {
    const file = join(folder, 'export.csv');
    writeFileSync(file, 'old', { mode: 0o644 });
    const exported = await run([...wanted, '--format', 'csv', '--output', file]);
    expect(exported).toEqual({ code: 0, out: '', err: NO_GAP });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const lines = readFileSync(file, 'utf8').trimEnd().split('\r\n');
    expect(lines[0]).toMatch(/^'?@timestamp,message,/);
    expect(lines).toHaveLength(3);
  });

  it('says when the file cannot be written', async () => {
    const { code, err } = await run([...wanted, '--output', join(folder, 'no', 'where')]);
    expect({ code, err }).toMatchObject({ code: 1, err: expect.stringMatching(/no\/where cannot be written: ENOENT/) });
  });
});

describe.concurrent('coverage', () => {
  it('shows each service, and that nothing is known to be missing', async () => {
    const { code, out, err } = await run(['coverage']);
    const [head, ...services] = out.trimEnd().split('\n');
    expect({ code, err }).toEqual({ code: 0, err: NO_GAP });
    expect(head).toMatch(/^service +hours +spans +logs +first seen +last seen +sampling +missing parents +gaps$/);
    expect(services.map((line) => line.split(/ {2,}/).filter((_, at) => at !== 4 && at !== 5))).toEqual([
      ['gateway', '1', '1', '0', 'not stated', '0', '0'],
      ['orders', '1', '2', '0', 'not stated', '0', '0'],
      ['records', expect.stringMatching(/^[12]$/), expect.any(String), '1', 'not stated', '0', '0'],
    ]);
  });

  it('is asked for a service, a time and a namespace, also as JSON', async () => {
    const { out } = await run(['coverage', '--service', 'orders', '--from', '-1h', '--json']);
    expect(JSON.parse(out)).toMatchObject({ watching: true, services: [{ service: 'orders', spans: 2, gaps: [] }] });
    const nothing = await run(['coverage', '--namespace', 'elsewhere']);
    expect(nothing).toMatchObject({ code: 0, out: '', err: expect.stringMatching(/no such service was seen/) });
    const { err } = await run(['coverage', '--url', `http://127.0.0.1:${empty.api}`]);
    expect(err).toMatch(/no evidence of any service since .*\n.*no service was seen yet: point a Collector/);
  });
});

describe.concurrent('doctor', () => {
  const ports = (port: number) => ['--config', portsFile(port)];
  const portsFile = (port: number) => {
    const file = join(folder, `ports-${port}.yaml`);
    const listener = `{ host: 127.0.0.1, port: 0 }`;
    const yaml = `dataDir: ${join(folder, 'new', 'deep')}\nreceive: { grpc: ${listener}, http: ${listener} }\napi: { port: ${port} }\n`;
    writeFileSync(file, yaml);
    return file;
  };

  it('sees the running one', async () => {
    const { code, out } = await run(['doctor', '--data-dir', join(folder, 'data')]);
    expect(code).toBe(0);
    expect(out).toMatch(/^ok {4}data folder \S+data \(owner \d+, private\)$/m);
    expect(out).toMatch(/^ok {4}Spantrail runs: accepted \d+, records written \d+$/m);
    expect(out).toMatch(/^ok {4}traces: \d+ accepted = \d+ used \+ \d+ context$/m);
    expect(out).toMatch(/^ok {4}records: (\d+) settled = \1 stored$/m);
    expect(out).toMatch(/^ok {4}coverage: no gap observed in the last 24 hours$/m);
    expect(out).toMatch(/^ok {4}store is writing$/m);
  });

  it('without one says what would be used, and creates nothing', async () => {
    const { code, out } = await run(['doctor', ...ports(0)], { environment: { SPANTRAIL_URL: '' } });
    expect(code).toBe(0);
    expect(out).toMatch(/^note {2}no Spantrail runs with these settings/m);
    expect(out).toMatch(/^ok {4}data folder \S+ will be created$/m);
    expect(existsSync(join(folder, 'new'))).toBe(false);
  });

  it('names the port that something else has', async () => {
    const other = createServer((_request, response) => response.writeHead(404).end()).listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const { code, out, err } = await run(['doctor', ...ports(port)], { environment: { SPANTRAIL_URL: '' } });
    other.close();
    expect(code).toBe(1);
    expect(out).toContain(`BAD   API: port ${port} is in use by something else; choose another with --api-port`);
    expect(err).toBe('spantrail: something needs attention, see above\n');
  });

  it('says that the folder is no folder and that nothing answers at an address', async () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    const { code, out } = await run(['doctor', '--data-dir', file, '--url', 'http://127.0.0.1:1']);
    expect(code).toBe(1);
    expect(out).toMatch(/^BAD {3}data folder \S+ cannot be used: \S+ is not a folder/m);
    expect(out).toMatch(/^BAD {3}no Spantrail answers at http:\/\/127\.0\.0\.1:1$/m);
  });
});

describe.concurrent('quarantine and reconcile', () => {
  it('say that nothing waits and that nothing differs', async () => {
    const nothing = 'spantrail: nothing waits in quarantine: all that was acknowledged could be read and stored\n';
    expect(await run(['quarantine', 'list'])).toEqual({ code: 0, out: '', err: nothing });
    expect(await run(['quarantine', 'list', '--json'])).toEqual({ code: 0, out: '', err: '' });
    const resolved = await run(['quarantine', 'list', '--state', 'resolved']);
    expect(resolved.err).toBe('spantrail: nothing was resolved so far\n');
    expect(await run(['quarantine', 'retry', '--all'])).toEqual({
      code: 0,
      out: '',
      err: 'spantrail: nothing was open\n',
    });
    const { code, out, err } = await run(['reconcile']);
    expect({ code, out }).toEqual({ code: 0, out: '' });
    expect(err).toMatch(/^spantrail: \d+ records compared: 0 missing, 0 older, 0 unknown since 20\S+Z\n$/);
  });

  it.each([
    [2, ['quarantine', 'show', 'abc'], /"abc" is no id: those are 16 hex digits/],
    [3, ['quarantine', 'show', 'f'.repeat(16)], /nothing in quarantine has the id f{16}/],
    [3, ['quarantine', 'retry', 'f'.repeat(16)], /1 ids are not in quarantine/],
    [2, ['quarantine', 'retry'], /name items, or all of them with --all/],
    [2, ['quarantine', 'drop', 'f'.repeat(16)], /--reason/],
    [2, ['quarantine', 'drop', 'f'.repeat(16), '--all', '--reason', 'x'], /name items, or all/],
    [2, ['quarantine', 'retry', 'f'.repeat(16), '--stage', 'store'], /--stage goes with --all/],
    [5, ['reconcile', '--url', 'http://127.0.0.1:1'], /no Spantrail answers/],
  ])('exit with %i: %j', async (code, words, message) => {
    expect(await run(words)).toMatchObject({ code, err: expect.stringMatching(message) });
  });
});

describe.concurrent('config and setup', () => {
  it('prints docs, example and schema out of the one schema', async () => {
    const [docs, example, schema] = await Promise.all(
      ['docs', 'example', 'schema'].map((name) => run(['config', name])),
    );
    expect(docs).toEqual({ code: 0, out: settingsMarkdown(), err: '' });
    expect(example).toEqual({ code: 0, out: settingsExample(), err: '' });
    expect(JSON.parse(schema?.out ?? '')).toMatchObject({ type: 'object', properties: { dataDir: {} } });
  });

  it('checks a file: good, with passwords kept back, bad with each mistake, absent', async () => {
    const [good, bad] = [join(folder, 'good.yaml'), join(folder, 'bad.yaml')];
    writeFileSync(good, 'store: { type: elasticsearch, elasticsearch: { username: me, password: hunter2 } }\n');
    writeFileSync(bad, 'dataDirr: x\njoin: { idleMs: soon }\n');
    expect(await run(['config', 'check', good])).toEqual({ code: 0, out: `${good}: ok\n`, err: '' });
    const printed = await run(['config', 'check', good, '--print']);
    expect(JSON.parse(printed.out)).toMatchObject({ store: { elasticsearch: { password: '(set)' } } });
    const { code, err } = await run(['config', 'check', bad]);
    expect(code).toBe(2);
    expect(err).toMatch(/dataDirr: unknown setting; did you mean dataDir\?/);
    expect(err).toMatch(/join\.idleMs: must be a whole number or a number with a unit/);
    expect(await run(['config', 'check', join(folder, 'none')])).toMatchObject({
      code: 2,
      err: expect.stringMatching(/cannot be read/),
    });
  });

  it('sets up the embedded store', async () => {
    const data = join(folder, 'set-up');
    expect(await run(['setup', '--data-dir', data])).toEqual({ code: 0, out: 'duckdb is set up\n', err: '' });
    expect(existsSync(join(data, 'records.duckdb'))).toBe(true);
  });
});

describe.concurrent('what cannot be meant', () => {
  it.each([
    [2, [], /Usage: spantrail/],
    [0, ['--version'], /^$/],
    [0, ['search', '--help'], /^$/],
    [2, ['serach'], /unknown command 'serach'.*\n?.*search/],
    [2, ['search', '--limit', '0'], /--limit.*must be a whole number above 0/],
    [2, ['search', '--from', 'yesterday'], /must be a time like 2026/],
    [2, ['coverage', '--to', 'soon'], /to: "soon" must be a time like 2026/],
    [2, ['coverage', 'orders'], /too many arguments/],
    [2, ['search', '--from', '-1h', '--to', '-2h'], /from: -1h is after to: -2h/],
    [2, ['quarantine', 'show', 'x'], /"x" is no id: those are 16 hex digits/],
    [5, ['coverage', '--url', 'http://127.0.0.1:1'], /no Spantrail answers at/],
    [2, ['search', '--sort', 'message'], /message cannot be sorted by/],
    [2, ['search', '--url', 'localhost:4320'], /is no address of a Spantrail/],
    [2, ['export', '--format', 'xml'], /Allowed choices are ndjson, csv/],
    [2, ['serve', '--grpc-port', '99999'], /must be 0 to 65535/],
    [2, ['serve', '--workers', '0'], /must be 1 to 64/],
    [2, ['serve', '--store', 'mysql'], /Allowed choices are duckdb/],
    [2, ['serve', '--config', '/nowhere.yaml'], /nowhere\.yaml: cannot be read/],
    [1, ['serve', '--data-dir', '/dev/null'], /the data folder \/dev\/null cannot be used/],
    [5, ['search', '--url', 'http://127.0.0.1:1'], /no Spantrail answers at http:\/\/127\.0\.0\.1:1; start one/],
  ])('exits with %i: %j', async (code, words, message) => {
    const ended = await run(words);
    expect(ended.err).toMatch(message);
    expect(ended.code).toBe(code);
  });

  it('serve on a taken port or folder says so in one line', async () => {
    const base = ['serve', '--store', 'memory', '--http-port', '0', '--grpc-port', '0'];
    const port = await run([...base, '--data-dir', join(folder, 'third'), '--api-port', String(running.api)], {
      environment: { SPANTRAIL_LOG_LEVEL: 'silent' },
    });
    expect(port).toMatchObject({
      code: 2,
      err: expect.stringMatching(/^spantrail: port \d+ \(API\) is in use; choose.*\n$/),
    });
    const taken = await run([...base, '--api-port', '0', '--data-dir', join(folder, 'data')]);
    expect(taken).toMatchObject({ code: 1, err: expect.stringMatching(/is in use by process \d+/) });
  });
});
