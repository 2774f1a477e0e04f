/**
 * Speaks the REST API of Open Policy Agent, and sends its decisions as OPA's decision log does (openpolicyagent.org, "Decision Logs":
 * batches in a gzipped JSON array): nurses may read orders.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { gzipSync } from 'node:zlib';
import { trace } from '@opentelemetry/api';

const PATH = '/v1/data/orders/allow';
const labels = { app: 'orders', id: randomUUID(), version: '1.8.0' };
let requests = 0;

async function decide(input, request) {
  const started = process.hrtime.bigint();
  const result = input.user.roles.includes('nurse') && input.action === 'orders:read';
  const span = trace.getActiveSpan();
  const decision_id = randomUUID();
  span.setAttribute('opa.decision_id', decision_id);
  const { traceId, spanId } = span.spanContext();
  const took = Number(process.hrtime.bigint() - started);
  const event = {
    ...{ labels, decision_id, trace_id: traceId, span_id: spanId, path: 'orders/allow', input, result },
    bundles: { orders: { revision: '4' } },
    requested_by: `${request.socket.remoteAddress}:${request.socket.remotePort}`,
    timestamp: new Date().toISOString(),
    metrics: { timer_rego_query_eval_ns: took, timer_server_handler_ns: took },
    req_id: ++requests,
  };
  const sent = await fetch(process.env.DECISIONS_URL, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
    body: gzipSync(JSON.stringify([event])),
  });
  if (!sent.ok) console.error(`decision log: ${sent.status} ${await sent.text()}`);
  return { result, decision_id };
}

const server = createServer(async (request, response) => {
  if (request.method !== 'POST' || request.url !== PATH) return void response.writeHead(404).end('{}');
  const chunks = await request.toArray();
  const { input } = JSON.parse(Buffer.concat(chunks).toString('utf8'));
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(await decide(input, request)));
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
console.log(`listening on ${server.address().port}`);
