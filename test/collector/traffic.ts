import { createHash } from 'node:crypto';
import { createServer } from 'node:net';
import { expect } from 'vitest';
import type { PipelineAnswer } from '../../src/api/contract.ts';

/** A request into `/orders/{id}`, some work, a statement: two of the three spans are accesses. */
export const SPANS_A_TRACE = 3;
export const ACCESSES_A_TRACE = 2;

/** An OTLP/JSON request with the traces of these numbers; the same number is the same trace again. */
export function tracesRequest(service: string, numbers: readonly number[], paddingBytes = 0): object {
  const resource = { attributes: [text('service.name', service), text('padding', 'x'.repeat(paddingBytes))] };
  const spans = numbers.flatMap((number) => traceOf(service, number));
  return { resourceSpans: [{ resource, scopeSpans: [{ scope: { name: 'test' }, spans }] }] };
}

const TRACES_A_REQUEST = 20;

/** Sends traces with the numbers from `first` on, until all of them were answered with 200. */
export async function sendTraces(url: string, service: string, traces: number, first = 0): Promise<void> {
  for (let sent = 0; sent < traces; sent += TRACES_A_REQUEST) {
    const count = Math.min(TRACES_A_REQUEST, traces - sent);
    const numbers = Array.from({ length: count }, (_, index) => first + sent + index);
    const response = await fetch(`${url}/v1/traces`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(tracesRequest(service, numbers)),
    });
    await response.arrayBuffer();
    expect(response.status).toBe(200);
  }
}

/** How many pieces of a signal a Spantrail has accepted. */
export async function acceptedOf(spantrail: { pipeline(): Promise<PipelineAnswer> }, signal: string): Promise<number> {
  const { counters } = await spantrail.pipeline();
  const samples = counters.filter(({ name, labels }) => name === 'accepted' && labels['signal'] === signal);
  return samples.reduce((sum, { value }) => sum + value, 0);
}

function traceOf(service: string, number: number): object[] {
  const digest = (name: string) => createHash('sha256').update(`${service} ${number} ${name}`).digest('hex');
  const traceId = digest('trace').slice(0, 32);
  const id = (step: number) => digest(`span ${step}`).slice(0, 16);
  const startNs = 1_795_000_000_000_000_000n + BigInt(number) * 1_000_000_000n;
  const span = (step: number, name: string, kind: number, attributes: object[]) => ({
    traceId,
    spanId: id(step),
    ...(step > 0 && { parentSpanId: id(step - 1) }),
    name,
    kind,
    startTimeUnixNano: String(startNs + BigInt(step) * 1_000_000n),
    endTimeUnixNano: String(startNs + 10_000_000n - BigInt(step) * 1_000_000n),
    attributes,
    status: {},
  });
  return [
    span(0, 'GET /orders/{id}', 2, [
      text('http.request.method', 'GET'),
      text('http.route', '/orders/{id}'),
      text('url.path', `/orders/${number}`),
      { key: 'http.response.status_code', value: { intValue: '200' } },
    ]),
    span(1, 'load', 1, []),
    span(2, 'SELECT shop.orders', 3, [
      text('db.system.name', 'postgresql'),
      text('db.namespace', 'shop'),
      text('db.collection.name', 'orders'),
      text('db.operation.name', 'SELECT'),
    ]),
  ];
}

function text(key: string, stringValue: string): object {
  return { key, value: { stringValue } };
}

/** A port that was free a moment ago: the Collector cannot say which one it took. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address ? address.port : 0;
}
