import { createHmac, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { PGlite } from '@electric-sql/pglite';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import { type RunningProgram, startProgram } from '../setup/program.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const agents = inject('agents');
const SERVICES = join(import.meta.dirname, '../fixtures/services');
const LISTENING = /listening on (http:\S+)/;
/** Of the tokens' issuer; made up for each run. */
const SECRET = randomBytes(32).toString('hex');
const ISSUER = 'https://login.clinic.example';

/** How each language's own agent is told to capture the headers: configuration, no line of the service. */
const LANGUAGES = {
  node: {
    program: process.execPath,
    parameters: ['--require', join(SERVICES, 'telemetry.cjs'), join(SERVICES, 'patients.cjs')],
    environment: {},
  },
  python: {
    program: 'python' in agents ? join(agents.python, 'opentelemetry-instrument') : '',
    parameters: ['python', join(SERVICES, 'patients.py')],
    environment: {
      PATH: `${'python' in agents ? agents.python : ''}${delimiter}${process.env['PATH']}`,
      OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST: 'x-forwarded-user,authorization,cookie,baggage',
    },
  },
  java: {
    program: 'java',
    parameters:
      'java' in agents
        ? [`-javaagent:${agents.java.agent}`, '-cp', agents.java.driver, join(SERVICES, 'Patients.java')]
        : [],
    environment: {
      // The service is run from its source here, and the agent stays out of compilers by itself.
      OTEL_JAVAAGENT_ENABLED: 'true',
      OTEL_INSTRUMENTATION_HTTP_SERVER_CAPTURE_REQUEST_HEADERS: 'x-forwarded-user,authorization,cookie,baggage',
    },
  },
} as const;

function token(claims: object, secret = SECRET): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ iss: ISSUER, iat: now, exp: now + 600, ...claims })}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

describe.skipIf('skipped' in agents)(
  'services that know nothing of telemetry, with the agents of their languages',
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'spantrail-identity-'));
    let spantrail: RunningProcess;
    let database: PGlite;
    let server: PGLiteSocketServer;

    beforeAll(async () => {
      const config = join(folder, 'spantrail.yaml');
      const issuer = { issuer: ISSUER, secret: '${env:TOKEN_SECRET}' };
      writeFileSync(config, JSON.stringify({ identity: { tokens: { issuers: [issuer] } } }));
      const settings = ['--config', config, '--data-dir', join(folder, 'data'), '--store', 'memory'];
      spantrail = await startProcess(settings, { TOKEN_SECRET: SECRET });
      database = await PGlite.create();
      await database.exec(`CREATE TABLE patients (id int PRIMARY KEY, name text, ward int);
      INSERT INTO patients VALUES (7, 'patient 7', 3)`);
      server = new PGLiteSocketServer({ db: database, host: '127.0.0.1', port: 0, maxConnections: 10 });
      await server.start();
    });
    afterAll(async () => {
      await spantrail?.stop();
      await server?.stop();
      await database?.close();
      rmSync(folder, { recursive: true, force: true });
    });

    function start(language: keyof typeof LANGUAGES): Promise<RunningProgram> {
      const { program, parameters, environment } = LANGUAGES[language];
      const [host, port] = server.getServerConn().split(':');
      const scheme = language === 'java' ? 'jdbc:postgresql' : 'postgresql';
      const login =
        language === 'java' ? { address: '', query: '?user=app&sslmode=disable' } : { address: 'app@', query: '' };
      const options = {
        environment: {
          ...process.env,
          OTEL_SERVICE_NAME: `patients-${language}`,
          OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
          OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${spantrail.grpc}`,
          OTEL_METRICS_EXPORTER: 'none',
          OTEL_LOGS_EXPORTER: 'none',
          OTEL_BSP_SCHEDULE_DELAY: '200',
          DATABASE_URL: `${scheme}://${login.address}${host}:${port}/postgres${login.query}`,
          ...environment,
        },
        folder,
      };
      return startProgram(program, parameters, LISTENING, options);
    }

    /** Asks for the patient and gives the records that come of it: the request and its statement. */
    async function ask(url: string, service: string, headers: Record<string, string>): Promise<readonly AuditRecord[]> {
      const known = new Set((await spantrail.search(`service.name: ${service}`)).map(({ event }) => event.id));
      const response = await fetch(`${url}/patients/7`, { headers });
      expect([response.status, await response.text()]).toEqual([200, expect.stringContaining('patient 7')]);
      const fresh = async () => {
        await spantrail.settled();
        const records = await spantrail.search(`service.name: ${service}`);
        return records.filter(({ event, audit }) => !known.has(event.id) && audit.join.state === 'complete');
      };
      await expect
        .poll(async () => (await fresh()).length, { timeout: 60_000, interval: 200 })
        .toBeGreaterThanOrEqual(2);
      return fresh();
    }

    it.each(Object.keys(LANGUAGES) as (keyof typeof LANGUAGES)[])(
      '%s',
      async (language) => {
        const service = await start(language);
        const name = `patients-${language}`;
        const url = service.ready[1] ?? '';
        /** The request's record and the one of the statement under it. */
        const asked = async (headers: Record<string, string>) => {
          const records = await ask(url, name, headers);
          const request = records.find(({ audit }) => audit.entry);
          const statement = records.find(({ db }) => db?.collection === 'patients');
          expect(statement?.audit.entry_id).toBe(request?.event.id);
          expect(request?.http?.request?.method).toBe('GET');
          return { request, statement };
        };
        try {
          const cookie = `theme=dark; connect.sid=${randomBytes(24).toString('base64url')}`;
          const gateway = await asked({ 'x-forwarded-user': 'alice', cookie });
          expect(gateway.request).toMatchObject({
            user: { id: 'alice' },
            audit: { actor: { type: 'user', attribution: 'header', verified: false }, target: { type: 'endpoint' } },
          });
          expect(gateway.statement).toMatchObject({
            user: { id: 'alice' },
            audit: { actor: { attribution: 'ancestor' }, target: { type: 'table' } },
            db: { operation: 'SELECT' },
          });

          const bearer = token({ sub: 'u-17', preferred_username: 'bob', roles: ['nurse'] });
          const checked = await asked({ authorization: `Bearer ${bearer}` });
          for (const record of [checked.request, checked.statement]) {
            expect(record).toMatchObject({
              user: { id: 'u-17', name: 'bob', roles: ['nurse'] },
              audit: { actor: { verified: true } },
            });
          }

          const forged = await asked({ authorization: `Bearer ${token({ sub: 'mallory' }, 'another secret')}` });
          expect(forged.request).toMatchObject({
            audit: { actor: { type: 'anonymous', claimed: 'mallory', verified: false } },
          });
          expect(forged.request?.user?.id).toBeUndefined();

          const carried = await asked({ baggage: 'user.id=carol' });
          expect(carried.statement).toMatchObject({
            user: { id: 'carol' },
            audit: { actor: { attribution: 'baggage' } },
          });

          const session = await asked({ cookie });
          expect(session.request?.session?.id).toMatch(/^[\w-]{22,43}$/);
          expect(session.request?.session).toEqual(gateway.request?.session);
          for (const record of [session.request, session.statement]) {
            expect(record).toMatchObject({
              user: { id: 'alice' },
              audit: { actor: { attribution: 'session', verified: false } },
            });
          }
        } finally {
          await service.stop();
        }
        // A cold Java on a busy machine takes its time.
      },
      300_000,
    );
  },
);
