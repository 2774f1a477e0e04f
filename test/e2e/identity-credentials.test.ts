import { execFile } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import { encodeTraces, type TestSpan } from '../otlp/encode.ts';
import { makeSigner, type Signer } from '../receive/token-signer.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

/** A real process with two workers, keys from a real address, and a restart: what only credentials tell. */
const ISSUER = 'https://login.clinic.example';
const folder = mkdtempSync(join(tmpdir(), 'spantrail-credentials-'));
const data = join(folder, 'data');
const secrets: string[] = [];
let signer: Signer;
let impostor: Signer;
let keyServer: Server;
let spantrail: RunningProcess;

/** Until the keys are there, tokens are not checked. */
async function start(): Promise<RunningProcess> {
  const settings = ['--config', join(folder, 'spantrail.yaml'), '--data-dir', data, '--store', 'duckdb'];
  const started = await startProcess(settings, { SPANTRAIL_WORKERS: '2' });
  for (;;) {
    const { counters } = await started.pipeline();
    if (
      counters.some(({ name, labels, value }) => name === 'token_keys' && labels['state'] === 'ready' && value === 1)
    ) {
      return started;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

beforeAll(async () => {
  [signer, impostor] = await Promise.all([makeSigner(), makeSigner()]);
  keyServer = createServer((_, response) => response.end(JSON.stringify(signer.jwks))).listen(0, '127.0.0.1');
  await new Promise((resolve) => keyServer.once('listening', resolve));
  const keysUrl = `http://127.0.0.1:${(keyServer.address() as AddressInfo).port}/keys`;
  const tokens = { issuers: [{ issuer: ISSUER, audience: ['clinic'], keysUrl }], leewayMs: '5s' };
  writeFileSync(join(folder, 'spantrail.yaml'), JSON.stringify({ identity: { tokens } }));
  spantrail = await start();
});
afterAll(async () => {
  await spantrail?.stop();
  keyServer.close();
  rmSync(folder, { recursive: true, force: true });
});

/** One request of a service that knows nothing of its callers; resolves with the record of it. */
async function request(attributes: Record<string, unknown>, path = '/patients/7'): Promise<AuditRecord | undefined> {
  const traceId = randomBytes(16).toString('hex');
  const startNs = BigInt(Date.now()) * 1_000_000n;
  const span: TestSpan = {
    ...{
      traceId,
      spanId: randomBytes(8).toString('hex'),
      kind: 2,
      name: `GET ${path}`,
      startNs,
      endNs: startNs + 5_000_000n,
    },
    attributes: { 'http.request.method': 'GET', 'url.path': path, 'http.response.status_code': 200, ...attributes },
  };
  const payload = encodeTraces([{ attributes: { 'service.name': 'patients' }, spans: [span] }]);
  expect(await spantrail.send('traces', payload)).toBe(200);
  await spantrail.settled();
  const [record] = await spantrail.search(`trace.id: ${traceId}`);
  return record;
}

async function withToken(claims: object, by = signer): Promise<AuditRecord | undefined> {
  const now = Math.floor(Date.now() / 1000);
  const token = await by.sign({ iss: ISSUER, aud: 'clinic', sub: 'alice', exp: now + 600, ...claims });
  secrets.push(token.split('.')[2] ?? '');
  return request({ 'http.request.header.authorization': [`Bearer ${token}`] });
}

function session(): string {
  const id = randomUUID();
  secrets.push(id);
  return id;
}

const cookie = (id: string) => ({ 'http.request.header.cookie': [`theme=dark; JSESSIONID=${id}`] });
const actor = (record: AuditRecord | undefined) => ({ id: record?.user?.id, ...record?.audit.actor });

describe('tokens', () => {
  it('that were checked prove who it was; others name nobody', async () => {
    expect(actor(await withToken({}))).toMatchObject({ id: 'alice', attribution: 'header', verified: true });
    const now = Math.floor(Date.now() / 1000);
    const bad = [
      await withToken({ exp: now - 60 }),
      await withToken({ nbf: now + 600 }),
      await withToken({ aud: 'shop' }),
      await withToken({ iss: 'https://elsewhere.example' }),
      await withToken({}, impostor),
      // Written so that it is no token to whoever checks them.
      await request({
        'http.request.header.cf-access-jwt-assertion': ['x y eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.x'],
      }),
    ];
    for (const record of bad) expect(actor(record)).toMatchObject({ id: undefined, verified: false });
  });
});

describe('a session', () => {
  it('is somebody’s once a request names both, also after a restart, until the logout', async () => {
    const id = session();
    expect(actor(await request(cookie(id)))).toMatchObject({ id: undefined, attribution: 'none' });
    // The login's answer begins the session.
    const login = {
      'user.id': 'bob',
      'user.name': 'Bob',
      'http.response.header.set-cookie': [`JSESSIONID=${id}; HttpOnly`],
    };
    const known = await request(login, '/login');
    expect(actor(known)).toMatchObject({ id: 'bob', attribution: 'span' });
    expect(known?.session?.id).toMatch(/^[\w-]{36}$/);
    const next = await request(cookie(id));
    expect(actor(next)).toMatchObject({ id: 'bob', attribution: 'session', verified: false });
    expect(next?.session).toEqual(known?.session);
    expect(actor(await request(cookie(session())))).toMatchObject({ id: undefined, attribution: 'none' });

    expect(await spantrail.stop()).toBe(0);
    spantrail = await start();
    expect(actor(await request({ 'session.id': id }))).toMatchObject({ id: 'bob', attribution: 'session' });

    expect((await request({ ...cookie(id), 'user.id': 'bob' }, '/logout'))?.event.type).toContain('end');
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(actor(await request(cookie(id)))).toMatchObject({ id: undefined, attribution: 'none' });
  });
});

it('doctor warns of credentials on the way, and nothing of them is on the disk', async () => {
  // What arrived is counted from the start of the process on.
  await spantrail.stop();
  spantrail = await start();
  await request(cookie(session()));
  await withToken({}, impostor);
  const words = ['src/cli/spantrail.mjs', 'doctor', '--data-dir', data, '--url', `http://127.0.0.1:${spantrail.api}`];
  const { stdout } = await promisify(execFile)(process.execPath, words);
  expect(stdout).toMatch(
    /^note {2}credentials arrive in captured headers \(1 cookie, 1 authorization\): .* docs\/identity\.md$/m,
  );
  expect(stdout).toMatch(/^note {2}tokens that name nobody: 1 bad signature; /m);
  await spantrail.stop();
  const files = readdirSync(data, { recursive: true, encoding: 'utf8' }).map((path) => join(data, path));
  for (const file of files.filter((path) => statSync(path).isFile())) {
    const bytes = readFileSync(file);
    for (const secret of secrets) expect(bytes.includes(secret) && `${file} has ${secret}`).toBe(false);
  }
});
