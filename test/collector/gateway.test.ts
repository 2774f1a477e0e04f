/** Agents on hosts, gateways over TLS with tokens before two Spantrails: deploy/collector/agent.yaml and gateway.yaml. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import { post, type RunningCollector, startCollector } from './run.ts';
import { ACCESSES_A_TRACE, SPANS_A_TRACE, sendTraces, tracesRequest } from './traffic.ts';

const run = promisify(execFile);
const collector = inject('collector');
const TOKENS = { first: 'made-up-for-the-first-host', second: 'made-up-for-the-second-host' };

describe.skipIf('skipped' in collector)('agents before a gateway', () => {
  let folder: string;
  let spantrails: RunningProcess[];
  let gateway: RunningCollector;
  const agents: RunningCollector[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-gateway-'));
    const subject = ['-subj', '/CN=gateway', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const files = ['-keyout', join(folder, 'key.pem'), '-out', join(folder, 'certificate.pem')];
    await run('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', ...files, ...subject]);
    await writeFile(join(folder, 'tokens'), `${TOKENS.first} first host\n${TOKENS.second} second host\n`);
    const start = (name: string) => startProcess(['--store', 'memory', '--data-dir', join(folder, name)]);
    spantrails = await Promise.all([start('one'), start('two')]);
    gateway = await startCollector({
      layers: ['otel-collector-config.yaml', 'deploy/collector/gateway.yaml'],
      folder,
      environment: {
        SPANTRAIL_ENDPOINT: `127.0.0.1:${spantrails[0]?.grpc}`,
        SPANTRAIL_ENDPOINTS: `[${spantrails.map(({ grpc }) => `127.0.0.1:${grpc}`).join(',')}]`,
        GATEWAY_CERT_FILE: join(folder, 'certificate.pem'),
        GATEWAY_KEY_FILE: join(folder, 'key.pem'),
        GATEWAY_TOKENS_FILE: join(folder, 'tokens'),
      },
    });
  });
  afterAll(async () => {
    await Promise.all([...agents, gateway, ...(spantrails ?? [])].map((program) => program?.stop()));
    await rm(folder, { recursive: true, force: true });
  });

  async function startAgent(token: string, environment: Record<string, string> = {}): Promise<RunningCollector> {
    const agent = await startCollector({
      layers: ['deploy/collector/agent.yaml', 'deploy/collector/identity.yaml'],
      folder: await mkdtemp(join(folder, 'agent-')),
      environment: {
        SPANTRAIL_ENDPOINT: gateway.grpc,
        SPANTRAIL_INSECURE: 'false',
        SPANTRAIL_CA_FILE: join(folder, 'certificate.pem'),
        SPANTRAIL_AUTHORIZATION: `Bearer ${token}`,
        ...environment,
      },
    });
    agents.push(agent);
    return agent;
  }

  const records = async (q: string) => (await Promise.all(spantrails.map((each) => each.search(q)))).flat();

  it('brings what two hosts know of a request together', async () => {
    const traces = 100;
    const hosts = await Promise.all([startAgent(TOKENS.first), startAgent(TOKENS.second)]);
    for (let first = 0; first < traces; first += 20) {
      const numbers = Array.from({ length: 20 }, (_, index) => first + index);
      const [door, inside] = halves(tracesRequest('split', numbers) as Traces);
      expect(await post(hosts[0]?.url ?? '', 'traces', door)).toBe(200);
      expect(await post(hosts[1]?.url ?? '', 'traces', inside)).toBe(200);
    }
    const whole = async () =>
      (await records('service.name: split')).filter(({ audit }) => audit.join.state === 'complete');
    await expect
      .poll(async () => (await whole()).length, { timeout: 60_000, interval: 200 })
      .toBe(traces * ACCESSES_A_TRACE);
    const found = await records('service.name: split');
    expect(found).toHaveLength(traces * ACCESSES_A_TRACE);
    expect(new Set(found.map(({ event }) => event.id)).size).toBe(found.length);
    for (const { audit } of found) expect(audit.join.spans).toBe(SPANS_A_TRACE);
  });

  it('takes nothing from whoever has no token that counts now', async () => {
    const token = 'made-up-and-not-yet-known';
    const agent = await startAgent(token);
    await sendTraces(agent.url, 'stranger', 20);
    // OTLP says of this answer: do not send that again. So the agent gives it up, with one line that says why.
    await expect
      .poll(() => agent.log(), { timeout: 30_000 })
      .toMatch(/Unauthenticated[^\n]*Dropping data|Dropping data[^\n]*Unauthenticated/i);
    expect(await statusOf(gateway, folder)).toBe(401);
    expect(await statusOf(gateway, folder, `Bearer ${token}`)).toBe(401);
    expect(await statusOf(gateway, folder, `Bearer ${TOKENS.second}`)).toBe(200);
    // Not without TLS.
    expect(await post(gateway.url, 'traces', {})).toBe(400);
    await writeFile(join(folder, 'tokens'), `${TOKENS.first}\n${token} a new host\n`);
    await expect.poll(() => statusOf(gateway, folder, `Bearer ${token}`), { timeout: 10_000 }).toBe(200);
    await sendTraces(agent.url, 'known', 20);
    const known = async () => (await records('service.name: known')).length;
    await expect.poll(known, { timeout: 30_000, interval: 200 }).toBe(20 * ACCESSES_A_TRACE);
    expect(await records('service.name: stranger')).toEqual([]);
    // What was taken out counts no more.
    expect(await statusOf(gateway, folder, `Bearer ${TOKENS.second}`)).toBe(401);
  });
});

interface Traces {
  readonly resourceSpans: readonly {
    readonly resource: object;
    readonly scopeSpans: readonly { readonly scope: object; readonly spans: readonly { readonly kind: number }[] }[];
  }[];
}

/** What the service at the door tells, and what the one behind it tells. */
function halves({ resourceSpans: [entry] }: Traces): [object, object] {
  const [{ scope, spans } = { scope: {}, spans: [] }] = entry?.scopeSpans ?? [];
  const part = (isOf: (kind: number) => boolean) => ({
    resourceSpans: [
      { resource: entry?.resource, scopeSpans: [{ scope, spans: spans.filter(({ kind }) => isOf(kind)) }] },
    ],
  });
  return [part((kind) => kind === 2), part((kind) => kind !== 2)];
}

/** The status of an empty request over TLS. */
async function statusOf(
  { url }: RunningCollector,
  folder: string,
  authorization?: string,
): Promise<number | undefined> {
  const ca = await readFile(join(folder, 'certificate.pem'));
  const headers = { 'content-type': 'application/json', ...(authorization !== undefined && { authorization }) };
  return new Promise((resolve, reject) => {
    // A connection of its own, so that nothing is left open.
    const options = { method: 'POST', ca, headers, agent: false };
    const asked = request(`${url.replace('http:', 'https:')}/v1/traces`, options, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    asked.once('error', reject);
    asked.end('{}');
  });
}
