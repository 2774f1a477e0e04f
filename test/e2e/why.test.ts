import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PGlite } from '@electric-sql/pglite';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import { freePort } from '../collector/traffic.ts';
import { type RunningProgram, startProgram } from '../setup/program.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const FOLDER = join(import.meta.dirname, 'guarded-orders');

const binary = inject('policyEngine');
/** What nurses may do, as the stand-in has it, too. */
const POLICY = `package orders
default allow := false
allow if {
  "nurse" in input.user.roles
  input.action == "orders:read"
}
`;

/** The engine is a stand-in that speaks as OPA does, and, where there is one, OPA itself. */
const ENGINES = [
  { engine: 'a stand-in for Open Policy Agent', isReal: false, isLacking: false },
  { engine: 'Open Policy Agent', isReal: true, isLacking: 'skipped' in binary },
];

for (const { engine, isReal, isLacking } of ENGINES)
  describe.skipIf(isLacking)(`services that ask ${engine} before they answer`, () => {
    let folder: string;
    let database: PGlite;
    let socket: PGLiteSocketServer;
    let spantrail: RunningProcess;
    const services: RunningProgram[] = [];
    let orders: number;

    async function startService(name: string, file: string, environment: NodeJS.ProcessEnv): Promise<number> {
      const service = await startProgram(
        process.execPath,
        ['--import', join(FOLDER, 'telemetry.mjs'), join(FOLDER, file)],
        /listening on (\d+)/,
        {
          environment: {
            ...{ ...process.env, ...environment, OTEL_SERVICE_NAME: name, OTEL_BSP_SCHEDULE_DELAY: '100' },
            OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${spantrail.grpc}`,
          },
        },
      );
      services.push(service);
      return Number(service.ready[1]);
    }

    /** OPA as it is configured to trace and to send its decisions to Spantrail: docs/why.md. */
    async function startEngine(origin: string): Promise<number> {
      const port = await freePort();
      const config = {
        services: { spantrail: { url: `${origin}/v1/events` } },
        decision_logs: {
          ...{ service: 'spantrail', resource: 'opa' },
          reporting: { min_delay_seconds: 1, max_delay_seconds: 1 },
        },
        distributed_tracing: {
          ...{ type: 'grpc', address: `127.0.0.1:${spantrail.grpc}`, encryption: 'off' },
          ...{ service_name: 'opa', sample_percentage: 100 },
        },
      };
      await writeFile(join(folder, 'opa.json'), JSON.stringify(config));
      await writeFile(join(folder, 'orders.rego'), POLICY);
      const files = ['-c', join(folder, 'opa.json'), join(folder, 'orders.rego')];
      const parameters = ['run', '--server', '--disable-telemetry', '--addr', `127.0.0.1:${port}`, ...files];
      const program = (binary as { binary: string }).binary;
      services.push(await startProgram(program, parameters, /Initializing server/, { environment: process.env }));
      for (let isUp = false; !isUp; await sleep(100)) {
        isUp = await fetch(`http://127.0.0.1:${port}/health`).then(
          ({ ok }) => ok,
          () => false,
        );
      }
      return port;
    }

    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'spantrail-why-'));
      database = await PGlite.create();
      await database.exec(`CREATE TABLE orders (id int PRIMARY KEY, note text); INSERT INTO orders VALUES (7, 'slept well');
      CREATE TABLE user_roles (user_id text, role text); INSERT INTO user_roles VALUES ('alice', 'nurse')`);
      socket = new PGLiteSocketServer({ db: database, host: '127.0.0.1', port: 0, maxConnections: 10 });
      await socket.start();
      spantrail = await startProcess(['--store', 'memory', '--data-dir', folder], {
        SPANTRAIL_CHECKS_ROLE_TABLES: '[{ table: user_roles }]',
      });
      const origin = `http://127.0.0.1:${spantrail.http}`;
      const policy = isReal
        ? await startEngine(origin)
        : await startService('opa', 'policy-engine.mjs', {
            DECISIONS_ORIGIN: origin,
            DECISIONS_URL: `${origin}/v1/events/opa`,
          });
      orders = await startService('orders', 'orders.mjs', {
        DATABASE_URL: `postgres://orders@${socket.getServerConn()}/shop`,
        POLICY_URL: `http://127.0.0.1:${policy}`,
      });
    });

    afterAll(async () => {
      await Promise.all([...services.map((service) => service.stop()), spantrail?.stop()]);
      await socket?.stop();
      await database?.close();
      await rm(folder, { recursive: true, force: true });
    });

    /** Asks for an order; resolves with the records of the request, the entry first, once nothing is on its way. */
    async function ask(path: string, user: string, role: string, isWhole: (entry: AuditRecord) => boolean, more = {}) {
      const headers = { 'x-forwarded-user': user, 'x-user-roles': role, ...more };
      const { status } = await fetch(`http://127.0.0.1:${orders}${path}`, { headers });
      for (const until = Date.now() + 30_000; ; await sleep(100)) {
        await spantrail.settled();
        const [entry] = await spantrail.search(`user.id: ${user} and url.path: "${path}" and audit.entry: true`);
        if (entry === undefined || !(isWhole(entry) || Date.now() > until)) continue;
        const records = await spantrail.search(`trace.id: ${entry.trace?.id}`);
        return { status, entry, inner: records.filter(({ audit }) => !audit.entry), records };
      }
    }

    const hasDecision = ({ audit }: AuditRecord) =>
      audit.trace?.services.includes('opa') === true &&
      audit.checks?.some(({ permission }) => permission !== undefined) === true;

    it('name who was refused what by which rule, the span that decided, and how long the check took', async () => {
      const { status, entry, records } = await ask('/policy/7', 'bob', 'clerk', hasDecision, {
        'x-purpose-of-use': 'BILLING',
      });
      expect(status).toBe(403);
      const [check, ...others] = entry.audit.checks ?? [];
      expect(others).toEqual([]);
      expect(entry).toMatchObject({
        user: { id: 'bob', roles: ['clerk'] },
        service: { name: 'orders' },
        event: { outcome: 'failure' },
        rule: { name: 'orders/allow' },
        audit: {
          ...{ decision: 'deny', why: { source: 'check' }, denied_by: 'orders/allow', purpose: 'BILLING' },
          checks: [
            { permission: 'orders:read', target: 'order/7', granted: false, rule: 'orders/allow', engine: 'opa' },
          ],
        },
      });
      expect(check?.inferred).toBeUndefined();
      expect(check?.duration).toBeGreaterThan(0);
      expect(check?.duration).toBeLessThan(entry.event.duration);
      const deciding = entry.audit.path?.at(-1);
      expect(deciding).toMatchObject({ service: 'opa', kind: 'server', status: 'denied', span_id: check?.span_id });
      expect(entry.audit.path?.map(({ service }) => service)).toEqual(['orders', 'orders', 'opa']);
      expect(entry.message).toMatch(
        /^bob \(clerk\) was refused GET on \/policy\/\{id\} \(\/policy\/7\) from 127\.0\.0\.1: orders:read on order\/7 was not granted by opa orders\/allow, /,
      );
      // The engine's decision is evidence of the request, not an access of its own.
      expect(records).toHaveLength(1);
      expect(entry.audit.evidence.filter(({ source }) => source === 'check.opa').map(({ signal }) => signal)).toEqual([
        'logs',
        'traces',
        'traces',
      ]);
    });

    it('keep the check of who was let in', async () => {
      const { status, entry, inner } = await ask('/policy/7', 'alice', 'nurse', hasDecision);
      expect(status).toBe(200);
      expect(entry.audit).toMatchObject({ decision: 'none', checks: [{ permission: 'orders:read', granted: true }] });
      expect(inner.map(({ event }) => event.action)).toEqual(['SELECT']);
      expect(inner[0]?.audit.checks).toBeUndefined();
    });

    it('may ask their own tables of roles', async () => {
      const isAsked = ({ audit }: AuditRecord) => audit.checks !== undefined;
      const granted = await ask('/roles/7', 'alice', 'x', isAsked);
      const refused = await ask('/roles/7', 'mallory', 'nurse', isAsked, { baggage: 'ticket=OPS-7' });
      expect([granted.status, refused.status]).toEqual([200, 403]);
      const check = { permission: 'GET', rule: 'user_roles', engine: 'role_table', inferred: true };
      expect(granted.entry.audit.checks).toMatchObject([{ ...check, granted: true }]);
      expect(refused.entry.audit).toMatchObject({
        ...{ purpose: 'ticket OPS-7', denied_by: 'user_roles', checks: [{ ...check, granted: false }] },
      });
      expect(refused.entry.audit.path?.at(-1)).toMatchObject({ kind: 'client', status: 'denied' });
    });
  });
