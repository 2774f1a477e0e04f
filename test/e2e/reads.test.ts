import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { ROUTES } from '../../src/api/contract.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { type Authority, createAuthority, type Pair } from '../auth/certificates.ts';
import { entryFor } from '../auth/openings.ts';
import { makeTrace } from './clinic-evidence.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

/** A real Spantrail with TLS and named people, the command line as they use it, and what is recorded of them. */

const folder = mkdtempSync(join(tmpdir(), 'spantrail-reads-'));
const path = (name: string) => join(folder, name);
const people = {
  agent: entryFor({ name: 'agent', can: ['send'] }),
  auditor: entryFor({ name: 'auditor', can: ['read'] }),
  watcher: entryFor({ name: 'watcher', can: ['monitor'] }),
  operator: entryFor({ name: 'operator', can: ['operate', 'monitor'] }),
  leaver: entryFor({ name: 'leaver', can: ['read'] }),
  // Looks after the test itself: what it asks is recorded under another name.
  checker: entryFor({ name: 'checker', can: ['read', 'monitor'] }),
};
type Name = keyof typeof people;

let authority: Authority;
let stranger: Authority;
let first: Pair;
let running: RunningProcess;
let url: string;
const trace = makeTrace(1);

function writeTokens(left: readonly string[] = []): void {
  const tokens = Object.values(people).map(({ entry }) => ({ ...entry, revoked: left.includes(entry.name) }));
  writeFileSync(path('tokens.yaml'), JSON.stringify({ tokens }));
}

function install({ certFile, keyFile }: Pair): void {
  copyFileSync(certFile, path('live.pem'));
  copyFileSync(keyFile, path('live.key'));
}

let gone: Pair;
beforeAll(async () => {
  [authority, stranger] = [createAuthority(), createAuthority('somebody else')];
  first = authority.server();
  install(first);
  gone = authority.client('gone');
  authority.revoke(gone);
  writeTokens();
  writeFileSync(
    path('spantrail.yaml'),
    JSON.stringify({
      dataDir: path('data'),
      store: { type: 'memory' },
      auth: {
        tokensFile: path('tokens.yaml'),
        certificates: [
          { name: 'dashboard', can: ['read'], san: 'DNS:dashboard.example' },
          { name: 'shipper', can: ['send'], san: 'DNS:shipper.example' },
          { name: 'left', can: ['read'], san: 'DNS:left.example', revoked: true },
          { name: 'gone', can: ['read'], san: 'DNS:gone.example' },
        ],
      },
      api: {
        tls: {
          certFile: path('live.pem'),
          keyFile: path('live.key'),
          clientCaFile: authority.caFile,
          clientCertificate: 'optional',
          crlFile: authority.crl(),
        },
      },
    }),
  );
  running = await startProcess(['--config', path('spantrail.yaml')]);
  url = `https://localhost:${running.api}`;
  const sent = await fetch(`http://127.0.0.1:${running.http}/v1/traces`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-protobuf', authorization: `Bearer ${people.agent.token}` },
    body: new Uint8Array(trace.payload),
  });
  expect(sent.status).toBe(200);
  await vi.waitUntil(async () => (await records(`trace.id: ${trace.traceId}`)).length > 0, 10_000);
});
afterAll(async () => {
  await running?.stop();
  authority?.remove();
  stranger?.remove();
  rmSync(folder, { recursive: true, force: true });
});

interface Given {
  readonly name?: Name | undefined;
  readonly pair?: Pair | undefined;
  readonly method?: string;
  readonly agent?: Agent;
}

/** Status and body; 0 and the code of the error where the connection is cut. */
async function ask(where: string, { name, pair, ...more }: Given = {}): Promise<{ status: number; body: string }> {
  const headers = name ? { authorization: `Bearer ${people[name].token}` } : {};
  const asked = request(`${url}${where}`, { ca: authority.ca, cert: pair?.cert, key: pair?.key, headers, ...more });
  try {
    const [response] = await Promise.all([once(asked, 'response'), asked.end()]);
    return { status: response[0].statusCode, body: await text(response[0]) };
  } catch (error) {
    return { status: 0, body: (error as NodeJS.ErrnoException).code ?? '' };
  }
}

async function records(q: string): Promise<AuditRecord[]> {
  const parameters = new URLSearchParams({ q, limit: '1000', sort: '@timestamp:asc' });
  const { status, body } = await ask(`/api/v1/records?${parameters}`, { name: 'checker' });
  expect(status, body).toBe(200);
  return JSON.parse(body).records;
}

/** What is recorded of somebody, oldest first, once there is so much. */
async function recordedOf(name: string, count: number): Promise<AuditRecord[]> {
  const q = `user.id: ${name} or audit.actor.claimed: ${name}`;
  await expect.poll(async () => (await records(q)).length, { timeout: 10_000 }).toBe(count);
  return records(q);
}

function cli(line: readonly string[], given: Record<string, string> = {}): ChildProcess {
  return spawn(process.execPath, ['src/cli/spantrail.mjs', ...line], {
    env: { PATH: process.env['PATH'], NODE_COMPILE_CACHE: path('cache'), SPANTRAIL_URL: url, ...given },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

async function run(
  line: readonly string[],
  name?: Name,
  more: Record<string, string> = { SPANTRAIL_CA: authority.caFile },
) {
  const child = cli(line, { ...(name && { SPANTRAIL_TOKEN: people[name].token }), ...more });
  const out = child.stdout ? text(child.stdout) : '';
  const err = child.stderr ? text(child.stderr) : '';
  const [code] = await once(child, 'close');
  return { code, out: await out, err: await err };
}

describe('the command line', () => {
  it('searches, shows, draws and exports with a token over TLS, and each of these is a record', async () => {
    const searched = await run(['search', `trace.id: ${trace.traceId}`, '--json'], 'auditor');
    expect(searched.code, searched.err).toBe(0);
    const [record, ...others] = searched.out
      .trim()
      .split('\n')
      .map((line): AuditRecord => JSON.parse(line));
    expect(others).toEqual([]);
    const id = record?.event.id ?? '';
    expect(await run(['show', id], 'auditor')).toMatchObject({ code: 0, out: expect.stringContaining(id) });
    expect(await run(['trace', trace.traceId], 'auditor')).toMatchObject({ code: 0 });
    const file = path('export.ndjson');
    expect(await run(['export', `trace.id: ${trace.traceId}`, '--output', file], 'auditor')).toMatchObject({ code: 0 });
    expect(readFileSync(file, 'utf8').trim().split('\n')).toHaveLength(1);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const told = await recordedOf('auditor', 7);
    expect(
      told.map(({ event, audit }) => [event.action, event.type.slice(0, 2).join(), audit.target.id, audit.rows]),
    ).toEqual([
      ['search', 'access,allowed', `trace.id: ${trace.traceId}`, 1],
      ['view', 'access,allowed', id, 1],
      // Whether the 32 digits are a record's, and then the trace itself.
      ['search', 'access,allowed', `event.id: ${trace.traceId}`, 0],
      ['view', 'access,allowed', trace.traceId, expect.any(Number)],
      ['export', 'access,start', `trace.id: ${trace.traceId}`, undefined],
      ['export', 'access,end', `trace.id: ${trace.traceId}`, 1],
      ['search', 'access,allowed', `trace.id: ${trace.traceId}`, 1],
    ]);
    for (const { user, audit, source, service, url: place } of told) {
      expect([user?.id, audit.actor.verified, source?.ip, service?.name]).toEqual([
        'auditor',
        true,
        '127.0.0.1',
        'spantrail',
      ]);
      expect(place?.path).toMatch(/^\/api\/v1\//);
    }
    // That somebody looked at a trace does not make them part of it.
    expect(told.map(({ trace: of }) => of)).toEqual(told.map(() => undefined));
    expect(told[0]?.message).toMatch(/^auditor read audit records where trace\.id: \w+ from 127\.0\.0\.1/);
  });

  it('follows, sees what others look at meanwhile, and that is recorded at both ends', async () => {
    const child = cli(['tail', '--json'], { SPANTRAIL_TOKEN: people.checker.token, SPANTRAIL_CA: authority.caFile });
    let seen = '';
    child.stdout?.on('data', (chunk) => {
      seen += chunk;
    });
    await once(child.stderr ?? child, 'data');
    await ask(`/api/v1/records/${'0'.repeat(32)}`, { name: 'leaver' });
    await expect.poll(() => seen, { timeout: 10_000 }).toContain('leaver failed to read audit record');
    child.kill('SIGINT');
    expect(await once(child, 'close')).toEqual([0, null]);
    const followed = () => records('user.id: checker and event.action: tail');
    await expect.poll(async () => (await followed()).length, { timeout: 10_000 }).toBe(2);
    const [begun, ended] = await followed();
    expect([begun?.event.type, ended?.event.type]).toEqual([
      ['access', 'start', 'allowed'],
      ['access', 'end', 'allowed'],
    ]);
    expect(ended?.audit.rows).toBeGreaterThan(0);
  });

  it('says what is missing: an authority, a token, a right, the s of https', async () => {
    const [stranger, nobody, sender, plain, half, mistaken] = await Promise.all([
      run(['search'], 'auditor', {}),
      run(['search']),
      run(['search'], 'agent'),
      run(['search'], 'auditor', { SPANTRAIL_URL: url.replace('https', 'http') }),
      run(['search', '--cert', path('live.pem')], 'auditor'),
      run(['search', '--ca', 'package.json'], 'auditor'),
    ]);
    expect(stranger).toMatchObject({ code: 1, err: expect.stringContaining('--ca (SPANTRAIL_CA)') });
    expect(nobody).toMatchObject({ code: 1, err: expect.stringContaining('SPANTRAIL_TOKEN or with --token') });
    expect(sender).toMatchObject({ code: 1, err: expect.stringContaining('agent may not read records') });
    expect(plain).toMatchObject({ code: 5, err: expect.stringContaining('begins with https://') });
    expect(half).toMatchObject({ code: 2, err: expect.stringContaining('--cert and --key belong together') });
    expect(mistaken).toMatchObject({
      code: 2,
      err: expect.stringContaining('package.json holds no certificate in PEM'),
    });
    for (const { err } of [stranger, nobody, sender, plain, half, mistaken]) {
      expect(err.trim().split('\n')).toHaveLength(1);
      expect(err).not.toContain(people.auditor.token);
    }
    const [refused] = await recordedOf('agent', 1);
    expect(refused).toMatchObject({ audit: { decision: 'deny' }, http: { response: { status_code: 403 } } });
  });

  it('lets the doctor ask who may, and tells why it cannot otherwise', async () => {
    const line = ['doctor', '--config', path('spantrail.yaml')];
    const [well, stranger] = await Promise.all([run(line, 'watcher'), run(line, 'auditor')]);
    expect(well.out).toContain('Spantrail runs: accepted');
    expect(stranger).toMatchObject({ code: 1, out: expect.stringContaining('auditor may not see metrics') });
  });

  it('changes something only for who operates, and says who it was', async () => {
    expect(await run(['reconcile'], 'auditor')).toMatchObject({ code: 1, err: expect.stringContaining('operate') });
    expect(await run(['reconcile'], 'operator')).toMatchObject({ code: 0 });
    expect((await recordedOf('operator', 2)).map(({ message }) => message.replace(/,? \d+ ms$/, ''))).toEqual([
      'operator reconciled audit records, begun from 127.0.0.1',
      'operator reconciled audit records from 127.0.0.1',
    ]);
  });
});

it('records each of a page’s five requests once', async () => {
  const q = encodeURIComponent('service.name: gateway');
  const asked = ['records', 'facets', 'histogram', 'coverage', 'records/x'].map((route) => `/api/v1/${route}?q=${q}`);
  const agent = new Agent({ keepAlive: true });
  await Promise.all(asked.map((where) => ask(where, { pair: authority.client('dashboard'), agent })));
  agent.destroy();
  const told = await recordedOf('dashboard', 5);
  expect(new Set(told.map(({ event }) => event.id)).size).toBe(5);
  expect(told.map(({ http }) => http?.route).sort()).toEqual(
    ['records', 'facets', 'histogram', 'coverage', 'records/{id}'].map((route) => `/api/v1/${route}`).sort(),
  );
});

it('shows nothing that cannot be recorded, and says why; what tells how it is goes on', async () => {
  const environment = {
    SPANTRAIL_AUTH_TOKENS_FILE: path('tokens.yaml'),
    // More than there can be: the log takes nothing.
    SPANTRAIL_WAL_FREE_BYTES_MIN: '4000000GiB',
  };
  const full = await startProcess(['--data-dir', path('full'), '--store', 'memory'], environment);
  const get = async (where: string) => {
    const headers = { authorization: `Bearer ${people.checker.token}` };
    const response = await fetch(`http://127.0.0.1:${full.api}${where}`, { headers });
    return { status: response.status, text: await response.text() };
  };
  for (const where of ['/', '/api/v1/records', '/api/v1/export', '/api/v1/tail', `/api/v1/traces/${'1'.repeat(32)}`]) {
    const { status, text: said } = await get(where);
    expect([status, JSON.parse(said).error.message], where).toEqual([
      503,
      expect.stringMatching(/has to be recorded first, and cannot be: there is no room/),
    ]);
  }
  for (const where of ['/healthz', '/metrics', '/api/v1/pipeline']) expect((await get(where)).status, where).toBe(200);
  expect(await get('/readyz')).toMatchObject({ status: 503, text: expect.stringContaining('refusing') });
  await full.stop();
});

describe('client certificates', () => {
  it('let in on every route who may, and nobody else', async () => {
    const pairs = {
      none: undefined,
      stranger: stranger.client('dashboard'),
      expired: authority.client('dashboard', { startsInDays: -2, endsInDays: -1 }),
      revoked: gone,
      unnamed: authority.client('unnamed'),
      left: authority.client('left'),
      sender: authority.client('shipper'),
      reader: authority.client('dashboard'),
    };
    const guarded = ROUTES.filter(({ needs, method, answers }) => needs && method === undefined && answers === 'json');
    expect(guarded.length).toBeGreaterThan(8);
    for (const { path: route, needs } of guarded) {
      const where = route.replace(/\{\w+\}/g, '1'.repeat(32));
      const got = Object.fromEntries(
        await Promise.all(
          Object.entries(pairs).map(async ([who, pair]) => [who, (await ask(where, { pair })).status] as const),
        ),
      );
      const { reader, ...others } = got;
      const refusals = { none: 401, stranger: 0, expired: 0, revoked: 0, unnamed: 401, left: 401, sender: 403 };
      expect(others, route).toEqual(refusals);
      if (needs === 'read') expect([0, 401, 403, 500], route).not.toContain(reader);
      else expect(reader, route).toBe(403);
    }
  });
});

describe('without a restart', () => {
  it('a new certificate is served', async () => {
    const served = async () => {
      const socket = connect({ port: running.api, host: '127.0.0.1', servername: 'localhost', ca: authority.ca });
      await once(socket, 'secureConnect');
      const { raw } = socket.getPeerCertificate();
      socket.destroy();
      return `-----BEGIN CERTIFICATE-----\n${raw.toString('base64').replace(/.{64}/g, '$&\n')}`;
    };
    expect(first.cert).toContain((await served()).slice(0, 300));
    const second = authority.server();
    install(second);
    await expect.poll(async () => second.cert.includes((await served()).slice(0, 300)), { timeout: 15_000 }).toBe(true);
  });

  it('a revoked token ends, and who still comes with it is recorded as a claim', async () => {
    expect((await ask('/api/v1/records', { name: 'leaver' })).status).toBe(200);
    writeTokens(['leaver']);
    await expect
      .poll(async () => (await ask('/api/v1/pipeline', { name: 'leaver' })).status, { timeout: 15_000 })
      .toBe(401);
    const { status, body } = await ask('/api/v1/records', { name: 'leaver' });
    expect([status, JSON.parse(body).error.message]).toEqual([401, 'this token was revoked; ask for another']);
    const claims = () => records('audit.actor.claimed: leaver');
    await expect.poll(async () => (await claims()).length, { timeout: 10_000 }).toBe(1);
    const [claim] = await claims();
    expect(claim?.user).toBeUndefined();
    expect(claim?.message).toMatch(/^someone claiming to be leaver was refused search on audit records/);
  });
});
