import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { importIntoKibana, type KibanaTarget } from '../../src/app/kibana.ts';
import { runProgram } from '../setup/cache.ts';
import { KIBANA_FILE, ofType, readExport } from './saved-objects.ts';

const PROGRAM = new URL('../../src/cli/spantrail.mjs', import.meta.url).pathname;

/** No Kibana: a server that answers as the documentation of its import API says, and keeps what it was sent. */
interface StandIn {
  readonly url: string;
  readonly requests: { readonly method: string; readonly path: string; readonly headers: IncomingMessage['headers'] }[];
  imported(): Promise<string>;
}

type Answer = { readonly status: number; readonly body: object | string };

const SUMMARY = readExport(readFileSync(KIBANA_FILE, 'utf8'));
const READY: Answer = { status: 200, body: { version: { number: '9.2.1' } } };
const TAKEN: Answer = { status: 200, body: { success: true, successCount: SUMMARY.exportedCount } };

let server: Server | undefined;
afterEach(() => server?.close());

async function standIn(
  status: Answer,
  answer: Answer = TAKEN,
  tls?: { readonly key: Buffer; readonly cert: Buffer },
): Promise<StandIn> {
  const requests: { method: string; path: string; headers: IncomingMessage['headers']; body: Buffer }[] = [];
  const listener = async (request: IncomingMessage, response: ServerResponse) => {
    const path = request.url ?? '';
    requests.push({ method: request.method ?? '', path, headers: request.headers, body: await buffer(request) });
    const { status: code, body } = path.endsWith('/api/status') ? status : answer;
    response.writeHead(code).end(typeof body === 'string' ? body : JSON.stringify(body));
  };
  const started = tls ? createTlsServer(tls, listener) : createServer(listener);
  server = started;
  await new Promise<void>((resolve) => started.listen(0, '127.0.0.1', resolve));
  return {
    url: `http${tls ? 's' : ''}://127.0.0.1:${(started.address() as AddressInfo).port}`,
    requests,
    imported: async () => {
      const { headers, body } = requests.at(-1) ?? { headers: {}, body: Buffer.alloc(0) };
      const form = await new Response(new Uint8Array(body), {
        headers: { 'content-type': headers['content-type'] ?? '' },
      }).formData();
      const file = form.get('file');
      if (!(file instanceof File)) throw new Error('no file was sent');
      expect(file.name).toBe('spantrail.ndjson');
      return file.text();
    },
  };
}

const into = (url: string, more: Partial<KibanaTarget> = {}) => importIntoKibana({ url, environment: {}, ...more });

describe('setup --kibana', () => {
  it('sends the file as it is, as a form, with the header that Kibana asks for', async () => {
    const kibana = await standIn(READY);
    const done = await into(kibana.url);
    expect(done).toEqual({
      objects: SUMMARY.exportedCount,
      version: '9.2.1',
      dashboardUrl: `${kibana.url}/app/dashboards#/view/spantrail-overview`,
    });
    expect(kibana.requests.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'GET /api/status',
      'POST /api/saved_objects/_import?overwrite=true',
    ]);
    expect(kibana.requests[1]?.headers).toMatchObject({ 'kbn-xsrf': 'spantrail' });
    expect(kibana.requests[1]?.headers.authorization).toBeUndefined();
    expect(await kibana.imported()).toBe(readFileSync(KIBANA_FILE, 'utf8'));
  });

  it('knows base paths, spaces, keys and passwords, and puts the link to traces into the data views', async () => {
    const kibana = await standIn({ status: 200, body: { status: { overall: { level: 'available' } } } });
    const done = await into(`${kibana.url}/ops/`, {
      space: 'audit',
      traceUrl: 'https://jaeger.example.org/trace/${trace_id}?from=kibana',
      environment: { KIBANA_API_KEY: 'a-key' },
    });
    expect(done.version).toBeUndefined();
    expect(done.dashboardUrl).toBe(`${kibana.url}/ops/s/audit/app/dashboards#/view/spantrail-overview`);
    expect(kibana.requests.map(({ path }) => path)).toEqual([
      '/ops/api/status',
      '/ops/s/audit/api/saved_objects/_import?overwrite=true',
    ]);
    expect(kibana.requests[1]?.headers.authorization).toBe('ApiKey a-key');
    const { objects } = readExport(await kibana.imported());
    expect(objects).toHaveLength(SUMMARY.exportedCount);
    for (const { attributes } of ofType(objects, 'index-pattern')) {
      const formats = JSON.parse(String(attributes['fieldFormatMap'])) as Record<string, { params: object }>;
      expect(formats['trace.id']?.params).toMatchObject({
        urlTemplate: 'https://jaeger.example.org/trace/{{value}}?from=kibana',
      });
      expect(formats['event.duration']).toBeDefined();
    }
    await into(kibana.url, { environment: { KIBANA_USERNAME: 'ops', KIBANA_PASSWORD: 'made-up' } });
    expect(kibana.requests.at(-1)?.headers.authorization).toBe(`Basic ${btoa('ops:made-up')}`);
  });

  const conflict = { type: 'dashboard', id: 'spantrail-overview', error: { type: 'missing_references' } };
  it.each<[string, Answer, Answer, string, RegExp]>([
    [
      'no login',
      { status: 401, body: { message: 'missing authentication' } },
      TAKEN,
      'unauthenticated',
      /KIBANA_API_KEY.*missing auth/,
    ],
    [
      'too few rights',
      READY,
      { status: 403, body: { message: 'Unable to bulk_create' } },
      'forbidden',
      /Saved Objects Management.*bulk_create/,
    ],
    [
      'a Kibana that starts',
      { status: 503, body: 'Kibana server is not ready yet' },
      TAKEN,
      'unavailable',
      /is not ready \(503\)/,
    ],
    [
      'an old Kibana',
      { status: 200, body: { version: { number: '8.11.4' } } },
      TAKEN,
      'config',
      /is 8\.11\.4; the dashboards need 8\.19/,
    ],
    ['something else', { status: 200, body: '<html></html>' }, TAKEN, 'usage', /is no Kibana/],
    ['a page to log in', { status: 302, body: '' }, TAKEN, 'usage', /is no Kibana \(302\)/],
    ['a base path that is not told', { status: 404, body: { message: 'Not Found' } }, TAKEN, 'not_found', /base path/],
    [
      'an object that is not taken',
      READY,
      { status: 200, body: { success: false, successCount: 3, errors: [conflict] } },
      'internal',
      /took 3 of \d+ objects\ndashboard spantrail-overview: missing references/,
    ],
    [
      'fewer objects than sent',
      READY,
      { status: 200, body: { success: true, successCount: 3 } },
      'internal',
      /took 3 of/,
    ],
  ])('says what is wrong in one line: %s', async (_, status, answer, code, words) => {
    const kibana = await standIn(status, answer);
    await expect(into(kibana.url)).rejects.toMatchObject({ code, message: expect.stringMatching(words) });
  });

  it.each<[string, Partial<KibanaTarget>, RegExp]>([
    ['kibana.example.org', {}, /is no address of a Kibana/],
    ['http://ops:secret@127.0.0.1:5601', {}, /KIBANA_USERNAME/],
    ['http://127.0.0.1:5601', { space: '../admin' }, /is no id of a space/],
    ['http://127.0.0.1:5601', { traceUrl: 'http://jaeger/trace' }, /cannot be the link of a trace id/],
    ['http://127.0.0.1:5601', { traceUrl: 'http://jaeger/${trace_id}/${span_id}' }, /without \$\{span_id\}/],
    ['http://127.0.0.1:5601', { traceUrl: 'javascript:${trace_id}' }, /cannot be the link/],
  ])('refuses what cannot be meant: %s %j', async (url, more, words) => {
    await expect(into(url, more)).rejects.toMatchObject({ code: 'usage', message: expect.stringMatching(words) });
  });

  it('is a command', async () => {
    const kibana = await standIn(READY);
    expect(await command(['setup', '--kibana', kibana.url, '--kibana-space', 'audit'])).toMatchObject({
      code: 0,
      stdout: `Kibana 9.2.1 has ${SUMMARY.exportedCount} objects of Spantrail: ${kibana.url}/s/audit/app/dashboards#/view/spantrail-overview\n`,
    });
    expect(await command(['setup', '--kibana-space', 'audit'])).toMatchObject({ code: 2, stdout: '' });
    expect(await command(['setup', '--kibana', 'http://127.0.0.1:2'])).toMatchObject({
      code: 5,
      stderr: expect.stringContaining('no Kibana answers at'),
    });
  });

  it('trusts the authority that NODE_EXTRA_CA_CERTS names, and no unknown one', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'spantrail-kibana-'));
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')];
    const subject = ['-subj', '/CN=kibana', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const made = ['-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-keyout', key, '-out', cert, ...subject];
    await runProgram('openssl', ['req', ...made]);
    const { url } = await standIn(READY, TAKEN, { key: readFileSync(key), cert: readFileSync(cert) });
    expect(await command(['setup', '--kibana', url])).toMatchObject({
      code: 5,
      stderr: expect.stringMatching(/certificate/),
    });
    expect(await command(['setup', '--kibana', url], { NODE_EXTRA_CA_CERTS: cert })).toMatchObject({ code: 0 });
    rmSync(folder, { recursive: true });
  });
});

function command(words: string[], environment: Record<string, string> = {}) {
  return new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) => {
    execFile(
      process.execPath,
      [PROGRAM, ...words],
      { env: { ...process.env, ...environment } },
      (error, stdout, stderr) => resolve({ code: error?.code ?? 0, stdout, stderr }),
    );
  });
}
