import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { blocksOf } from '../docs/page.ts';
import { encodeTraces, type TestSpan } from '../otlp/encode.ts';
import { runProgram } from '../setup/cache.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

/** One request to the ward's gateway, the check that it made, and the statement of the service behind it. */
interface Request {
  readonly at: string;
  readonly who: string;
  readonly role: string;
  readonly method: 'GET' | 'PUT';
  readonly patient: number;
  readonly ms: number;
  /** Why the policy said no. */
  readonly refused?: string;
}

const MARCH: readonly Request[] = [
  { at: '2026-02-27T10:00:00Z', who: 'alice', role: 'nurse', method: 'GET', patient: 7, ms: 20 },
  { at: '2026-03-03T08:12:40Z', who: 'alice', role: 'nurse', method: 'GET', patient: 7, ms: 23 },
  { at: '2026-03-11T14:40:02Z', who: 'dora', role: 'doctor', method: 'PUT', patient: 7, ms: 41 },
  { at: '2026-03-12T09:00:00Z', who: 'dora', role: 'doctor', method: 'GET', patient: 9, ms: 18 },
  {
    ...{ at: '2026-03-17T22:05:31Z', who: 'xenia', role: 'nurse', method: 'GET', patient: 7, ms: 12 },
    refused: 'xenia is not assigned to ward 3',
  },
  { at: '2026-03-20T07:30:00Z', who: 'xenia', role: 'nurse', method: 'GET', patient: 9, ms: 19 },
  { at: '2026-03-24T16:20:11Z', who: 'bela', role: 'nurse', method: 'GET', patient: 7, ms: 25 },
  { at: '2026-04-01T00:00:00Z', who: 'alice', role: 'nurse', method: 'GET', patient: 7, ms: 20 },
];

/** As the record says it, with the check that refused. */
const WHY = 'chart:read on patients/7 was not granted by opa ward/assigned: xenia is not assigned to ward 3';

const [CLIENT, SERVER, INTERNAL] = [3, 2, 1];

/** As OpenTelemetry's instrumentations of a gateway, a service and a database client tell it. */
function evidenceOf({ at, who, role, method, patient, ms, refused }: Request, number: number): Buffer {
  const traceId = (number + 1).toString(16).padStart(32, 'a');
  const id = (span: number) => `${(number + 1).toString(16).padStart(8, 'b')}0000000${span}`;
  const startNs = BigInt(Date.parse(at)) * 1_000_000n;
  const span = (of: number, afterMs: number, part: TestSpan): TestSpan => ({
    ...{ traceId, spanId: id(of), ...(of > 1 && { parentSpanId: id(1) }) },
    ...{ startNs: startNs + BigInt(afterMs) * 1_000_000n, endNs: startNs + BigInt(ms - 2) * 1_000_000n, ...part },
  });
  const request = span(1, 0, {
    ...{ name: `${method} /patients/:id`, kind: SERVER, endNs: startNs + BigInt(ms) * 1_000_000n },
    attributes: {
      'http.request.method': method,
      'http.route': '/patients/:id',
      'url.path': `/patients/${patient}`,
      'http.response.status_code': refused === undefined ? 200 : 403,
      'http.request.header.x-forwarded-user': [who],
      'http.request.header.x-user-roles': [role],
      'client.address': `10.20.0.${10 + number}`,
    },
  });
  const check = span(2, 2, {
    ...{ name: 'may open chart', kind: INTERNAL },
    attributes: {
      'audit.check.permission': method === 'GET' ? 'chart:read' : 'chart:write',
      'audit.check.target': `patients/${patient}`,
      'audit.check.granted': refused === undefined,
      'audit.check.rule': 'ward/assigned',
      'audit.check.engine': 'opa',
      ...(refused !== undefined && { 'audit.check.reason': refused }),
    },
  });
  const statement = span(3, 5, {
    ...{ name: 'SELECT patients', kind: CLIENT },
    attributes: {
      'db.system.name': 'postgresql',
      'db.namespace': 'clinic',
      'db.collection.name': 'patients',
      'db.operation.name': method === 'GET' ? 'SELECT' : 'UPDATE',
      'db.query.text':
        method === 'GET' ? 'SELECT * FROM patients WHERE id = $1' : 'UPDATE patients SET ward = $2 WHERE id = $1',
    },
  });
  const spans = refused === undefined ? [request, check, statement] : [request, check];
  return encodeTraces([{ attributes: { 'service.name': 'chart' }, spans }]);
}

const folder = mkdtempSync(join(tmpdir(), 'spantrail-auditor-'));
let spantrail: RunningProcess;

beforeAll(async () => {
  spantrail = await startProcess(['--data-dir', join(folder, 'data')], {
    SPANTRAIL_RECEIVE_VOUCHING_PEERS: '["127.0.0.1/32"]',
    // What rules find of these few requests is no part of the answers.
    SPANTRAIL_DETECT_ENABLED: 'false',
  });
  for (const [number, request] of MARCH.entries()) {
    expect(await spantrail.send('traces', evidenceOf(request, number))).toBe(200);
  }
  await spantrail.settled();
});
afterAll(async () => {
  await spantrail?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const shown = blocksOf('auditor.md').filter(({ mark }) => mark === 'ask');

it('has two commands for the question', () => expect(shown.slice(0, 2)).toHaveLength(2));

it.each(shown.map(({ words, text }) => [words, text] as const))('%s', async (_words, text) => {
  const [, command = '', answer = ''] = /^\$ npx spantrail (.*)\n([\s\S]*)$/.exec(text) ?? [];
  expect(command).not.toBe('');
  const said = await runProgram('bash', ['-c', `"${process.execPath}" src/cli/spantrail.mjs ${command}`], {
    environment: { SPANTRAIL_URL: `http://127.0.0.1:${spantrail.api}` },
  });
  expect(said.trimEnd()).toBe(answer.trimEnd());
});

it('makes the same report of March each time, which has the refusal and its reason', async () => {
  const report = async (format: string) => {
    const parameters = new URLSearchParams({ from: '2026-03-01', to: '2026-04-01', format, sensitive: 'patients' });
    const response = await fetch(`http://127.0.0.1:${spantrail.api}/api/v1/report?${parameters}`);
    expect(response.status).toBe(200);
    return response.text();
  };
  const first = await report('md');
  expect(first).toContain(`| ${WHY} | 1 | 1 | 0 | 2026-03-17 22:05:31 |`);
  expect(await report('md')).toBe(first);
  expect(await report('html')).toContain(`<td>${WHY}</td>`);
});
