import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { credentials, Metadata } from '@grpc/grpc-js';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { resources, tracing } from '@opentelemetry/sdk-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import { type Authority, createAuthority, type Pair } from '../auth/certificates.ts';
import { entryFor } from '../auth/openings.ts';
import { encodeTraces } from '../otlp/encode.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const PROGRAM = 'src/cli/spantrail.mjs';

let authority: Authority;
let folder: string;
let live: Pair;
let gateway: Pair;
let running: RunningProcess;

const agent = entryFor({ name: 'agent' });
const auditor = entryFor({ name: 'auditor', can: ['read', 'monitor'] });
const path = (name: string) => join(folder, name);

beforeAll(async () => {
  authority = createAuthority();
  folder = mkdtempSync(join(tmpdir(), 'spantrail-senders-'));
  live = authority.server();
  gateway = authority.client('gateway');
  install(live);
  copyFileSync(authority.crl(), path('live.crl'));
  writeFileSync(path('tokens.yaml'), JSON.stringify({ tokens: [agent.entry, auditor.entry] }));
  const tls = { certFile: path('live.pem'), keyFile: path('live.key') };
  const mutual = { ...tls, clientCaFile: authority.caFile, clientCertificate: 'optional', crlFile: path('live.crl') };
  writeFileSync(
    path('spantrail.yaml'),
    JSON.stringify({
      dataDir: path('data'),
      store: { type: 'memory' },
      // Reached from other machines, as it is where it is used.
      receive: { grpc: { host: '0.0.0.0', tls: mutual }, http: { host: '0.0.0.0', tls: mutual } },
      auth: {
        tokensFile: path('tokens.yaml'),
        certificates: [{ name: 'gateway', can: ['send'], san: 'DNS:gateway.example' }],
      },
    }),
  );
  running = await startProcess(['--config', path('spantrail.yaml')]);
});

afterAll(async () => {
  await running?.stop();
  authority?.remove();
  rmSync(folder, { recursive: true, force: true });
});

function install({ certFile, keyFile }: Pair): void {
  copyFileSync(certFile, path('live.pem'));
  copyFileSync(keyFile, path('live.key'));
}

async function records(q: string): Promise<AuditRecord[]> {
  const url = `http://127.0.0.1:${running.api}/api/v1/records?inner=true&q=${encodeURIComponent(q)}`;
  const response = await fetch(url, { headers: { authorization: `Bearer ${auditor.token}` } });
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  return ((await response.json()) as { records: AuditRecord[] }).records;
}

/** As an SDK sends, with what is given; resolves with what became of it. */
async function exportSpan(
  service: string,
  channel: ReturnType<typeof credentials.createSsl>,
  token?: string,
): Promise<string> {
  const metadata = new Metadata();
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
  const url = `https://localhost:${running.grpc}`;
  const exporter = new OTLPTraceExporter({ url, credentials: channel, metadata, timeoutMillis: 5000 });
  const memory = new tracing.InMemorySpanExporter();
  const provider = new tracing.BasicTracerProvider({
    resource: resources.resourceFromAttributes({ 'service.name': service }),
    spanProcessors: [new tracing.SimpleSpanProcessor(memory)],
  });
  const attributes = { 'http.request.method': 'GET', 'url.path': '/patients/7', 'user.id': 'alice' };
  provider.getTracer('test').startSpan('GET', { kind: 1, attributes }).end();
  const outcome = await new Promise<string>((resolve) =>
    exporter.export(memory.getFinishedSpans(), ({ error }) => resolve(error?.message ?? 'sent')),
  );
  await exporter.shutdown();
  return outcome;
}

function post(token: string | undefined, pair?: Pair): Promise<number> {
  const span = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7', name: 'GET' };
  return new Promise((resolve, reject) => {
    const outgoing = request(`https://localhost:${running.http}/v1/traces`, {
      method: 'POST',
      agent: false,
      ca: authority.ca,
      ...(pair && { key: pair.key, cert: pair.cert }),
      headers: { 'content-type': 'application/x-protobuf', ...(token && { authorization: `Bearer ${token}` }) },
    });
    outgoing.on('error', reject);
    outgoing.on('response', (response) => resolve(response.resume().statusCode ?? 0));
    outgoing.end(encodeTraces([{ spans: [span] }]));
  });
}

/** The serial number of the certificate that the gRPC listener shows. */
function serial(): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      port: running.grpc,
      host: '127.0.0.1',
      ca: authority.ca,
      servername: 'localhost',
      ALPNProtocols: ['h2'],
    });
    socket.once('error', reject);
    socket.once('secureConnect', () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
  });
}

interface Ended {
  readonly code: number;
  readonly text: string;
}

function run(words: readonly string[], environment: Record<string, string> = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { env: { ...process.env, ...environment }, timeout: 60_000 };
    execFile(process.execPath, [PROGRAM, ...words], options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), text: `${stdout}${stderr}` });
    });
  });
}

describe('senders of a running Spantrail', () => {
  it('are named by token and by client certificate', async () => {
    const ca = Buffer.from(authority.ca);
    const mutual = credentials.createSsl(ca, Buffer.from(gateway.key), Buffer.from(gateway.cert));
    expect(await exportSpan('by-token', credentials.createSsl(ca), agent.token)).toBe('sent');
    expect(await exportSpan('by-certificate', mutual)).toBe('sent');
    expect(await exportSpan('by-nothing', credentials.createSsl(ca))).toMatch(
      /UNAUTHENTICATED.*send `authorization: Bearer`/,
    );
    expect(await exportSpan('by-reader', credentials.createSsl(ca), auditor.token)).toMatch(
      /PERMISSION_DENIED.*"auditor" may not send/,
    );
    for (const [service, sender] of [
      ['by-token', 'agent'],
      ['by-certificate', 'gateway'],
    ]) {
      await expect.poll(() => records(`service.name: ${service}`), { timeout: 30_000 }).toHaveLength(1);
      const [record] = await records(`service.name: ${service}`);
      expect(record?.audit.evidence).toMatchObject([{ sender }]);
      expect(record?.user).toMatchObject({ id: 'alice' });
    }
    expect(await records('service.name: (by-nothing or by-reader)')).toEqual([]);
  });

  it('come and go without a restart', async () => {
    expect([await post(agent.token), await post(undefined, gateway), await post(undefined)]).toEqual([200, 200, 401]);
    writeFileSync(path('tokens.yaml'), JSON.stringify({ tokens: [{ ...agent.entry, revoked: true }, auditor.entry] }));
    await expect.poll(() => post(agent.token), { timeout: 20_000, interval: 200 }).toBe(401);
    writeFileSync(path('tokens.yaml'), 'tokens: nobody');
    await expect.poll(() => running.log(), { timeout: 20_000 }).toContain('the new file of tokens cannot be used');
    expect(await post(agent.token)).toBe(401);
    authority.revoke(gateway);
    copyFileSync(authority.crl(), path('live.crl'));
    await expect
      .poll(() => post(undefined, gateway).catch(() => 'cut'), { timeout: 20_000, interval: 200 })
      .toBe('cut');
    const before = await serial();
    install(authority.server('localhost', { endsInDays: 50 }));
    await expect.poll(serial, { timeout: 20_000, interval: 200 }).not.toBe(before);
    // Nothing above was a secret of theirs in a log.
    expect(running.log()).not.toContain(agent.token);
    expect(running.log()).not.toContain('BEGIN');
  });

  it('whose files are broken or end soon are in doctor', async () => {
    const { text } = await run(['doctor', '--config', path('spantrail.yaml')]);
    expect(text).toMatch(/BAD {3}auth\.tokensFile: .*tokens\.yaml: tokens: Invalid input/);
    expect(text).toMatch(/ok {4}receive\.grpc\.tls: the certificate ends on \d{4}-\d\d-\d\d/);
    install(live);
    writeFileSync(
      path('tokens.yaml'),
      JSON.stringify({ tokens: [auditor.entry, entryFor({ name: 'old', expiresAt: '2020-01-01' }).entry] }),
    );
    const again = await run(['doctor', '--config', path('spantrail.yaml')]);
    expect(again.text).toMatch(/note {2}receive\.http\.tls: the certificate ends on .*, in 0 days/);
    expect(again.text).toMatch(/note {2}expired, and refused by now: old/);
  });
});

describe('a start', () => {
  const insecure = { SPANTRAIL_RECEIVE_GRPC_HOST: '0.0.0.0', SPANTRAIL_API_HOST: '::' };

  it('that would let other machines in is refused, with what to do', async () => {
    const { code, text } = await run(['serve', '--data-dir', path('never')], insecure);
    expect(code).toBe(2);
    expect(text).toContain('receive.grpc.host is 0.0.0.0, which other machines can reach, without TLS');
    expect(text).toContain('api.host is ::, which other machines can reach');
    expect(text).toContain('start with --insecure');
    expect(text).not.toMatch(/^ +at /m);
  });

  it('is not when the flag says that something else protects it', async () => {
    const open = await startProcess(['--insecure', '--store', 'memory', '--data-dir', path('open')], insecure);
    expect(open.log()).toContain('allowed by \\"insecure\\"');
    expect(await open.stop()).toBe(0);
  });

  it('with an expired certificate is one clear line', async () => {
    const { certFile, keyFile } = authority.server('localhost', { startsInDays: -2, endsInDays: -1 });
    const { code, text } = await run(['serve', '--data-dir', path('never')], {
      SPANTRAIL_RECEIVE_HTTP_TLS_CERT_FILE: certFile,
      SPANTRAIL_RECEIVE_HTTP_TLS_KEY_FILE: keyFile,
    });
    expect(code).toBe(2);
    expect(text).toMatch(/^.*receive\.http\.tls\.certFile: .* this certificate expired on .*; renew it\n$/);
  });
});

describe('token create', () => {
  it('prints a token that the lines for the settings let in', async () => {
    const { text, code } = await run([
      'token',
      'create',
      'agent-1',
      '--can',
      'send',
      '--expires',
      '30d',
      '--signals',
      'traces,logs',
      '--json',
    ]);
    expect(code).toBe(0);
    const { token, hash, ...entry } = JSON.parse(text);
    expect(token).toMatch(/^spantrail_/);
    expect(hash).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(entry).toEqual({
      name: 'agent-1',
      can: ['send'],
      signals: ['traces', 'logs'],
      expiresAt: expect.stringMatching(/Z$/),
    });
  });
});
