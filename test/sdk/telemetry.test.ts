import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { logs as api } from '@opentelemetry/api-logs';
import { logs } from '@opentelemetry/sdk-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { recordAccess } from '../../src/sdk/record-access.ts';
import { variablesOf } from '../../src/sdk/telemetry.ts';

describe('the settings of the telemetry', () => {
  it.each<[string, Parameters<typeof variablesOf>[0], Record<string, string>, object]>([
    [
      'are gRPC to this machine, and every request, when nothing is said',
      {},
      {},
      {
        OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4317',
        OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
        OTEL_TRACES_SAMPLER: 'always_on',
      },
    ],
    [
      'speak HTTP with the port of OTLP over HTTP',
      { endpoint: 'http://collector:4318' },
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://other:4317' },
      { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318', OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' },
    ],
    [
      'are those of the environment where no option says otherwise',
      { serviceName: 'orders' },
      { OTEL_TRACES_SAMPLER: 'always_off', OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json', OTEL_SERVICE_NAME: 'other' },
      {
        OTEL_TRACES_SAMPLER: 'always_off',
        OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
        OTEL_SERVICE_NAME: 'orders',
      },
    ],
    [
      'add the namespace to the headers',
      { namespace: 'clinic-7' },
      { OTEL_EXPORTER_OTLP_HEADERS: 'a=b' },
      { OTEL_EXPORTER_OTLP_HEADERS: 'a=b,x-spantrail-namespace=clinic-7' },
    ],
  ])('%s', (_, options, environment, variables) => {
    expect(variablesOf(options, environment)).toMatchObject(variables);
  });

  it('name an endpoint that is no URL', () => {
    expect(() => variablesOf({ endpoint: 'collector 4317' }, {})).toThrow(/endpoint must be a URL.*"collector 4317"/);
  });
});

describe('recordAccess', () => {
  const exporter = new logs.InMemoryLogRecordExporter();
  beforeAll(() => {
    const processors = [new logs.SimpleLogRecordProcessor({ exporter })];
    api.setGlobalLoggerProvider(new logs.LoggerProvider({ processors }));
  });
  afterAll(() => api.disable());

  it('states all that it was told in the names of the record, and nothing else', () => {
    const time = new Date('2026-11-22T10:00:00Z');
    recordAccess({
      id: 'e-1',
      actor: { id: 'bot', name: 'Helper', type: 'agent', onBehalfOf: { id: 'alice' } },
      action: 'merge',
      target: { type: 'patient', id: 'patients/7', name: 'A. B.' },
      decision: 'deny',
      reason: 'locked',
      rule: { id: 'r-1', name: 'Locked files' },
      checks: [{ permission: 'patient:write', granted: false, durationMs: 0.5 }],
      purpose: 'treatment',
      change: { before: { ward: 1 }, after: { ward: 2 } },
      time,
      durationMs: 12,
      attributes: { 'session.id': 's', 'event.action': 'not this one' },
    });
    recordAccess({ action: 'read', target: 'x' });
    const [full, least] = exporter.getFinishedLogRecords();
    expect(full?.eventName).toBe('audit.access');
    expect(full?.hrTime).toEqual([time.getTime() / 1000, 0]);
    expect(full?.attributes).toEqual({
      'session.id': 's',
      'event.id': 'e-1',
      'user.id': 'bot',
      'user.name': 'Helper',
      'audit.actor.type': 'agent',
      'user.effective.id': 'alice',
      'event.action': 'merge',
      'event.outcome': 'failure',
      'event.reason': 'locked',
      'event.duration': 12_000_000,
      'audit.decision': 'deny',
      'audit.target.type': 'patient',
      'audit.target.id': 'patients/7',
      'audit.target.name': 'A. B.',
      'rule.id': 'r-1',
      'rule.name': 'Locked files',
      'audit.purpose': 'treatment',
      'audit.checks': [{ permission: 'patient:write', granted: false, duration: 500_000 }],
      'audit.change.before': { ward: 1 },
      'audit.change.after': { ward: 2 },
    });
    expect(least?.attributes).toEqual({ 'event.action': 'read', 'audit.target.id': 'x' });
  });

  it.each([
    ['action', { action: '', target: 'x' }],
    ['target', { action: 'read' }],
    ['target', { action: 'read', target: {} }],
    ['actor', { action: 'read', target: 'x', actor: { name: 'alice' } }],
  ])('refuses an event without %s', (name, event) => {
    expect(() => recordAccess(event as never)).toThrow(new RegExp(`^recordAccess: ${name} must be a text`));
  });
});

describe('a process with telemetry', () => {
  const register = new URL('../../src/sdk/register.ts', import.meta.url).href;

  /** Runs a script until it says `up`, sends it the signal, and tells what it said and how it ended. */
  async function endBy(signal: NodeJS.Signals, script: string, endpoint: string) {
    const child = spawn(process.execPath, ['--import', register, '--input-type=module', '--eval', script], {
      env: { ...process.env, OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout.on('data', (chunk) => {
      if (said === '') child.kill(signal);
      said += chunk;
    });
    const [code, by] = await once(child, 'exit');
    return { said: said.trim(), code, by };
  }
  const SPAN = `import { trace } from '@opentelemetry/api';
    trace.getTracer('t').startSpan('s').end(); setInterval(() => {}, 1000);`;

  it('sends what waits before a signal ends it, and ends by that signal', async () => {
    const paths: (string | undefined)[] = [];
    const receiver = createServer((request, response) => {
      paths.push(request.url);
      request.resume().on('end', () => response.end());
    }).listen(0, '127.0.0.1');
    await once(receiver, 'listening');
    const { port } = receiver.address() as AddressInfo;
    const ended = await endBy('SIGTERM', `${SPAN} console.log('up');`, `http://127.0.0.1:${port}`);
    receiver.close();
    expect(ended).toEqual({ said: 'up', code: null, by: 'SIGTERM' });
    expect(paths).toContain('/v1/traces');
  });

  it('leaves the end to a service that handles the signal itself, and waits for no receiver that is away', async () => {
    const own = `process.on('SIGTERM', () => setTimeout(() => { console.log('done'); process.exit(3); }, 200));`;
    const dead = 'http://127.0.0.1:2';
    expect(await endBy('SIGTERM', `${SPAN} ${own} console.log('up');`, dead)).toEqual({
      said: 'up\ndone',
      code: 3,
      by: null,
    });
    expect(await endBy('SIGINT', `${SPAN} console.log('up');`, dead)).toMatchObject({ by: 'SIGINT' });
  });
});
