/** A real Collector before a Spantrail that asks who sends: by its own certificate, by a token, by a token from a file. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import { type Authority, createAuthority, type Pair } from '../auth/certificates.ts';
import { entryFor } from '../auth/openings.ts';
import { post, type RunningCollector, startCollector } from '../collector/run.ts';
import { ACCESSES_A_TRACE, tracesRequest } from '../collector/traffic.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const TRACES = 20;

/** The extension holds the token, read again when its file changes, instead of a header in the exporter. */
const TOKEN_FROM_FILE = `yaml:${JSON.stringify({
  extensions: { 'bearertokenauth/spantrail': { filename: '${env:TOKEN_FILE}' } },
  exporters: { 'otlp_grpc/spantrail': { auth: { authenticator: 'bearertokenauth/spantrail' }, headers: null } },
  service: { extensions: ['file_storage/queue', 'bearertokenauth/spantrail'] },
})}`;

describe.skipIf('skipped' in inject('collector'))('a Collector before a Spantrail that asks who sends', () => {
  let folder: string;
  let authority: Authority;
  let host: Pair;
  let spantrail: RunningProcess;
  const collectors: RunningCollector[] = [];
  const [agent, next, auditor] = [
    entryFor({ name: 'agent', namespaces: ['clinic'] }),
    entryFor({ name: 'rotated' }),
    entryFor({ name: 'auditor', can: ['read', 'monitor'] }),
  ];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-mutual-'));
    authority = createAuthority();
    host = authority.client('host-1');
    const tls = { ...authority.server(), cert: undefined, key: undefined };
    const mutual = { ...tls, clientCaFile: authority.caFile, clientCertificate: 'required' };
    const settings = {
      store: { type: 'memory' },
      dataDir: join(folder, 'data'),
      receive: { grpc: { tls: mutual } },
      auth: {
        tokens: [agent.entry, next.entry, auditor.entry],
        certificates: [{ name: 'hosts', can: ['send'], subject: { O: 'Example' }, san: 'DNS:host-*.example' }],
      },
    };
    await writeFile(join(folder, 'spantrail.yaml'), JSON.stringify(settings));
    spantrail = await startProcess(['--config', join(folder, 'spantrail.yaml')]);
  });
  afterAll(async () => {
    await Promise.all([...collectors, spantrail].map((program) => program?.stop()));
    authority?.remove();
    await rm(folder, { recursive: true, force: true });
  });

  async function start(
    name: string,
    environment: Record<string, string>,
    ...more: string[]
  ): Promise<RunningCollector> {
    await mkdir(join(folder, name));
    const collector = await startCollector({
      layers: ['deploy/collector/agent.yaml', 'deploy/collector/identity.yaml', ...more],
      folder: join(folder, name),
      environment: {
        SPANTRAIL_ENDPOINT: `localhost:${spantrail.grpc}`,
        SPANTRAIL_INSECURE: 'false',
        SPANTRAIL_CA_FILE: authority.caFile,
        SPANTRAIL_CERT_FILE: host.certFile,
        SPANTRAIL_KEY_FILE: host.keyFile,
        ...environment,
      },
    });
    collectors.push(collector);
    return collector;
  }

  async function records(service: string): Promise<AuditRecord[]> {
    const parameters = new URLSearchParams({ q: `service.name: ${service}`, inner: 'true', limit: '1000' });
    const response = await fetch(`http://127.0.0.1:${spantrail.api}/api/v1/records?${parameters}`, {
      headers: { authorization: `Bearer ${auditor.token}` },
    });
    return ((await response.json()) as { records: AuditRecord[] }).records;
  }

  const numbers = Array.from({ length: TRACES }, (_, index) => index);

  /** Sent equals indexed, and each record says who sent it. */
  async function expectFrom(
    collector: RunningCollector,
    service: string,
    sender: string,
  ): Promise<readonly AuditRecord[]> {
    expect(await post(collector.url, 'traces', tracesRequest(service, numbers))).toBe(200);
    const complete = async () => (await records(service)).filter(({ audit }) => audit.join.state === 'complete');
    await expect
      .poll(async () => (await complete()).length, { timeout: 60_000, interval: 200 })
      .toBe(TRACES * ACCESSES_A_TRACE);
    const found = await records(service);
    expect(found).toHaveLength(TRACES * ACCESSES_A_TRACE);
    const senders = new Set(found.flatMap(({ audit }) => audit.evidence.map((piece) => piece.sender)));
    expect([...senders]).toEqual([sender]);
    return found;
  }

  it('is known by its certificate alone', async () => {
    await expectFrom(await start('certificate', {}), 'by-certificate', 'hosts');
  });

  it('is known by the token beside it, and sends to the namespace of that', async () => {
    const collector = await start('token', { SPANTRAIL_AUTHORIZATION: `Bearer ${agent.token}` });
    const found = await expectFrom(collector, 'by-token', 'agent');
    expect(new Set(found.map((record) => record.data_stream.namespace))).toEqual(new Set(['clinic']));
  });

  it('takes up another token from a file without a restart', async () => {
    const file = join(folder, 'token.txt');
    await writeFile(file, agent.token);
    const collector = await start('file', { TOKEN_FILE: file }, TOKEN_FROM_FILE);
    await expectFrom(collector, 'by-file', 'agent');
    await writeFile(file, next.token);
    const body = (number: number) => tracesRequest('by-next', [number]);
    let sent = 0;
    const senders = async () => {
      await post(collector.url, 'traces', body(1000 + sent++));
      return (await records('by-next')).flatMap(({ audit }) => audit.evidence.map((piece) => piece.sender));
    };
    await expect.poll(senders, { timeout: 30_000, interval: 300 }).toContain('rotated');
  });

  it('may be a gateway that asks hosts for a certificate as well as for a token', async () => {
    const own = authority.server();
    const tokens = join(folder, 'tokens');
    await writeFile(tokens, 'made-up-for-one-host a note\n');
    await mkdir(join(folder, 'gateway'));
    const gateway = await startCollector({
      layers: ['otel-collector-config.yaml', 'deploy/collector/gateway.yaml'],
      folder: join(folder, 'gateway'),
      environment: {
        SPANTRAIL_ENDPOINT: `localhost:${spantrail.grpc}`,
        SPANTRAIL_INSECURE: 'false',
        SPANTRAIL_CA_FILE: authority.caFile,
        SPANTRAIL_CERT_FILE: host.certFile,
        SPANTRAIL_KEY_FILE: host.keyFile,
        SPANTRAIL_AUTHORIZATION: `Bearer ${next.token}`,
        GATEWAY_CERT_FILE: own.certFile,
        GATEWAY_KEY_FILE: own.keyFile,
        GATEWAY_CLIENT_CA_FILE: authority.caFile,
        GATEWAY_TOKENS_FILE: tokens,
      },
    });
    collectors.push(gateway);
    const toGateway = { SPANTRAIL_ENDPOINT: gateway.grpc, SPANTRAIL_AUTHORIZATION: 'Bearer made-up-for-one-host' };
    const without = await start('host-without', { ...toGateway, SPANTRAIL_CERT_FILE: '', SPANTRAIL_KEY_FILE: '' });
    await post(without.url, 'traces', tracesRequest('no-certificate', numbers));
    await expectFrom(await start('host', toGateway), 'by-gateway', 'rotated');
    await expect.poll(() => without.log(), { timeout: 30_000 }).toMatch(/certificate required|bad certificate/);
    expect(await records('no-certificate')).toEqual([]);
  });

  it('is told why it is refused; with a certificate of a stranger it gets no connection and waits', async () => {
    const refused = await start('refused', { SPANTRAIL_AUTHORIZATION: `Bearer ${auditor.token}` });
    await post(refused.url, 'traces', tracesRequest('refused', numbers));
    await expect.poll(() => refused.log(), { timeout: 30_000 }).toMatch(/PermissionDenied.*auditor.*may not send/);
    const strangers = createAuthority('strangers');
    const { certFile, keyFile } = strangers.client('host-1');
    const stranger = await start('stranger', { SPANTRAIL_CERT_FILE: certFile, SPANTRAIL_KEY_FILE: keyFile });
    await post(stranger.url, 'traces', tracesRequest('stranger', numbers));
    await expect
      .poll(() => spantrail.log(), { timeout: 30_000 })
      .toMatch(/"reason":"unknown".*refused for its certificate/);
    expect(await stranger.log()).not.toContain('Dropping data');
    strangers.remove();
    expect([...(await records('refused')), ...(await records('stranger'))]).toEqual([]);
  });
});
