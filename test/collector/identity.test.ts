import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import { type RunningCollector, startCollector } from './run.ts';

const collector = inject('collector');
const WAYS = [['otel-collector-config.yaml'], ['deploy/collector/agent.yaml', 'deploy/collector/identity.yaml']];

const base64 = (text: string) => Buffer.from(text).toString('base64');
const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');

const title = 'a Collector that turns credentials into who called and drops them, with %s';

describe.skipIf('skipped' in collector).each(WAYS.map((layers) => [layers.join(' and '), layers] as const))(
  title,
  (_, layers) => {
    const folder = mkdtempSync(join(tmpdir(), 'spantrail-identity-collector-'));
    let spantrail: RunningProcess;
    let otelcol: RunningCollector;
    let url: string;

    beforeAll(async () => {
      spantrail = await startProcess(['--data-dir', join(folder, 'data'), '--store', 'memory']);
      const environment = { SPANTRAIL_ENDPOINT: `127.0.0.1:${spantrail.grpc}` };
      otelcol = await startCollector({ layers, folder, environment });
      url = `${otelcol.url}/v1/traces`;
    });
    afterAll(async () => {
      await Promise.all([otelcol?.stop(), spantrail?.stop()]);
      rmSync(folder, { recursive: true, force: true });
    });

    /** The one record of a request whose server span has these headers. */
    async function recordOf(headers: Record<string, string | string[]>, to = url) {
      const traceId = randomBytes(16).toString('hex');
      const now = BigInt(Date.now()) * 1_000_000n;
      const value = (text: string) => ({ stringValue: text });
      const captured = Object.entries(headers).map(([name, given]) => ({
        key: `http.request.header.${name}`,
        value: Array.isArray(given) ? { arrayValue: { values: given.map(value) } } : value(given),
      }));
      const span = {
        ...{ traceId, spanId: randomBytes(8).toString('hex'), name: 'GET /x', kind: 2 },
        ...{ startTimeUnixNano: `${now}`, endTimeUnixNano: `${now + 1_000_000n}` },
        attributes: [
          { key: 'http.request.method', value: value('GET') },
          { key: 'url.path', value: value('/patients/7') },
          { key: 'http.response.status_code', value: { intValue: 200 } },
          ...captured,
        ],
      };
      const resource = { attributes: [{ key: 'service.name', value: value('orders') }] };
      const response = await fetch(to, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ resourceSpans: [{ resource, scopeSpans: [{ spans: [span] }] }] }),
      });
      expect(response.status).toBe(200);
      await expect
        .poll(() => spantrail.search(`trace.id: ${traceId}`), { timeout: 15_000, interval: 100 })
        .toHaveLength(1);
      return (await spantrail.search(`trace.id: ${traceId}`))[0];
    }

    const claims = {
      sub: 'u-17',
      preferred_username: 'alice',
      email: 'alice@clinic.example',
      roles: ['nurse', 'lead'],
    };
    const signature = randomBytes(32).toString('base64url');
    const bearer = `Bearer ${base64url({ alg: 'RS256', typ: 'JWT' })}.${base64url(claims)}.${signature}`;
    const alice = { id: 'u-17', name: 'alice', email: 'alice@clinic.example', roles: ['nurse', 'lead'] };

    it.each<[string, Record<string, string | string[]>, object | undefined]>([
      ['a token in a list', { authorization: [bearer] }, alice],
      ['a token as text', { authorization: bearer }, alice],
      ['Basic', { authorization: [`Basic ${base64(`bob:${signature}`)}`] }, { id: 'bob' }],
      ['an opaque token', { authorization: [`Bearer ${signature}`], cookie: [`sid=${signature}`] }, undefined],
    ])('%s', async (_, headers, user) => {
      const record = await recordOf(headers);
      expect(record?.user).toEqual(user);
      expect(record?.audit.actor).toMatchObject({ attribution: user ? 'span' : 'none', verified: false });
    });

    it('lets no credentials through: Spantrail had nothing to mask', async () => {
      const masked = async () => {
        const { counters } = await spantrail.pipeline();
        return counters.filter(({ name }) => name === 'masked').reduce((sum, { value }) => sum + value, 0);
      };
      expect(await masked()).toBe(0);
      // The same without the Collector.
      await recordOf({ authorization: [bearer] }, `http://127.0.0.1:${spantrail.http}/v1/traces`);
      expect(await masked()).toBe(1);
    });
  },
);
