import { randomBytes } from 'node:crypto';
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { AuditRecord } from '../../src/core/record.ts';
import { runProgram } from '../setup/cache.ts';
import { type InstalledPackage, installPackage } from '../setup/installed-package.ts';
import { type RunningProgram, startProgram } from '../setup/program.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

/** A service in TypeScript that uses all of it, to be checked against the declarations of the package. */
const TYPED_SERVICE = `
import express, { type Request } from 'express';
import { fastify } from 'fastify';
import { type AccessEvent, expressUser, fastifyUser, recordAccess, setUser, startTelemetry } from 'spantrail/sdk';
import 'spantrail/sdk/register';
const telemetry = startTelemetry({ serviceName: 'typed', captureHeaders: [], commentStatements: true });
const app = express();
app.use(expressUser());
app.use(expressUser((request: Request) => ({ id: request.ip ?? '', roles: ['guest'] })));
const other = fastify();
other.register(fastifyUser);
other.register(fastifyUser, { identify: (request) => ({ id: request.ip }) });
const event: AccessEvent = { actor: { id: 'bot', type: 'agent', onBehalfOf: { id: 'alice' } }, action: 'read', target: 'notes/1' };
recordAccess(event);
setUser({ id: 'alice', name: undefined });
// @ts-expect-error An access has a target.
recordAccess({ action: 'read' });
await telemetry.flush();
await telemetry.shutdown();
`;

describe('the package, packed and installed', () => {
  let installed: InstalledPackage;
  let spantrail: RunningProcess;
  const services: RunningProgram[] = [];
  const environment = (more: Record<string, string> = {}) => ({ ...process.env, SHOP_NAMESPACE: 'shop', ...more });

  beforeAll(async () => {
    installed = await installPackage(inject('packed').tarball, ['express', '@types/express', '@types/node', 'fastify']);
    cpSync(join(import.meta.dirname, '../sdk/shop'), installed.folder, { recursive: true });
    const data = ['--data-dir', join(installed.folder, 'data'), '--store', 'duckdb'];
    spantrail = await startProcess(data, { SPANTRAIL_JOIN_WORKERS: '2' }, installed.program);
  });
  afterAll(async () => {
    await Promise.all(services.map((service) => service.stop()));
    await spantrail?.stop('SIGKILL');
    await installed?.remove();
  });

  async function startService(name: string, more: Record<string, string> = {}): Promise<string> {
    const endpoint = `http://127.0.0.1:${spantrail.grpc}`;
    const service = await startProgram(
      process.execPath,
      ['--import', './telemetry.mjs', `${name}.mjs`],
      /listening on (\d+)/,
      {
        folder: installed.folder,
        environment: environment({ SHOP_SERVICE: name, OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, ...more }),
      },
    );
    services.push(service);
    return `http://127.0.0.1:${service.ready[1]}`;
  }

  it('runs the command line without a word of TypeScript', async () => {
    const run = (...parameters: string[]) => runProgram(process.execPath, [installed.program, ...parameters]);
    expect(await run('--version')).toMatch(/^\d+\.\d+\.\d+/);
    const url = ['--url', `http://127.0.0.1:${spantrail.api}`];
    expect(await run('doctor', ...url)).toContain('accepted');
  });

  it('records who did what in services that use the SDK', async () => {
    const orders = await startService('orders');
    const gateway = await startService('gateway', { ORDERS_URL: orders });
    const ask = async (path: string, session = 'session-1', more: Record<string, string> = {}) => {
      const response = await fetch(gateway + path, { headers: { 'x-shop-session': session, ...more } });
      return response.status;
    };
    expect([await ask('/orders/7'), await ask('/orders/13'), await ask('/orders/7', 'stolen')]).toEqual([
      200, 403, 401,
    ]);
    // A caller who says that its request is not to be sampled is recorded all the same.
    const trace = randomBytes(16).toString('hex');
    expect(await ask('/orders/8', 'session-1', { traceparent: `00-${trace}-00f067aa0ba902b7-00` })).toBe(200);
    // Telemetry leaves when the services end.
    await Promise.all(services.splice(0).map((service) => service.stop()));
    await spantrail.settled();
    const search = (q: string): Promise<AuditRecord[]> => spantrail.search(`data_stream.namespace: shop and ${q}`);

    const [entry] = await search('audit.entry: true and audit.target.id: "orders/7" and user.id: u-17');
    expect(entry).toMatchObject({
      event: { action: 'GET', outcome: 'success' },
      service: { name: 'gateway' },
      http: { route: '/orders/:id' },
      user: { id: 'u-17', name: 'alice', roles: ['support'] },
      audit: { actor: { attribution: 'span' } },
    });
    const opened = await search('event.action: open-order and audit.entry_target: "orders/7"');
    expect(opened).toHaveLength(1);
    expect(opened[0]).toMatchObject({
      service: { name: 'orders' },
      http: { route: '/orders/:id', response: { status_code: 200 } },
      user: { id: 'u-17', roles: ['support'] },
      audit: {
        target: { type: 'order', id: 'orders/7' },
        decision: 'allow',
        purpose: 'ticket 4711',
        evidence: expect.arrayContaining([
          expect.objectContaining({ signal: 'logs' }),
          expect.objectContaining({ signal: 'traces', source: 'http.server' }),
        ]),
      },
    });
    const [refused] = await search('audit.decision: deny and service.name: orders');
    expect(refused).toMatchObject({
      event: { action: 'open-order', outcome: 'failure', reason: 'the order is under legal hold' },
      rule: { id: 'legal-hold' },
      audit: { checks: [{ permission: 'order:read', target: 'orders/13', granted: false, duration: 1_500_000 }] },
    });
    const [stranger] = await search('http.response.status_code: 401');
    expect(stranger?.user).toBeUndefined();
    const hidden = await search(`trace.id: ${trace}`);
    expect(hidden.map(({ user, audit }) => `${user?.id} ${audit.target.id}`).sort()).toEqual([
      'u-17 orders/8',
      'u-17 orders/8',
    ]);
  });

  it('loads in CommonJS, too, and tells what is missing', async () => {
    const script = `const sdk = require('spantrail/sdk');
      process.on('warning', ({ code }) => console.log(code));
      try { sdk.recordAccess({ actor: 'alice', action: ' ', target: 'x' }); } catch (error) { console.log(error.message); }
      sdk.recordAccess({ actor: 'alice', action: 'read', target: 'x' });
      sdk.recordAccess({ actor: 'alice', action: 'read', target: 'y' });`;
    const printed = await runProgram(process.execPath, ['--eval', script], { folder: installed.folder });
    expect(printed.trim().split('\n')).toEqual([
      'recordAccess: action must be a text that is not empty',
      'SPANTRAIL_NO_TELEMETRY',
    ]);
  });

  it('has declarations that a strict compiler takes', async () => {
    writeFileSync(join(installed.folder, 'service.ts'), TYPED_SERVICE);
    const options = '--noEmit --strict --exactOptionalPropertyTypes --module nodenext --target es2024 --types node';
    const tsc = join(import.meta.dirname, '../../node_modules/typescript/bin/tsc');
    writeFileSync(join(installed.folder, 'package.json'), '{"type":"module"}');
    await runProgram(process.execPath, [tsc, ...options.split(' '), 'service.ts'], { folder: installed.folder });
  });
});
