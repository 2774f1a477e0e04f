import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { AppError } from '../../core/errors.ts';
import type { Client } from './client.ts';

/** What the day needs so that the rules have something to find: places, a past, and somebody at the database's own door. */

/** The office, 10.20.0.0/16, is in Switzerland and 198.51.100.0/24 in Brazil: a database in MaxMind's format, gzip, base64. */
const PLACES = [
  'H4sIAAAAAAACA23P11IUQRiG4R9EzDlhxhzBHDEuKBtcVDCjjr0zvdDrbvc4M4ssJox7CV6E5YH3wKkXsYceeQsWb9VUieUcPPXW',
  '111T1SJtIk2RdpyHHTgfO3EBLsRFuBiX4FJchstxBa7EVbga1+BaXIfrcQN24UbchJtxC27Fbbgdu3EH7sRduBv34F7ch/vxAB7E',
  'Q3gYe7AXj+BRPIbH8QSexFN4Gs/gWTyH57EPL+BFvISX8QpexQz24wBew+s4iFnMYR4LeAOLOIQ38RbexmEcwTt4F+/hfXyAD/ER',
  'juJjfIJP0cNnqERCkRLtY4BNES1STntMZJwwWMHn6WlVpJa2FXHE13R5IRIRMSbpXscJkZfEJDbS0yl8JfKaeJPub/GdyHS6vMcP',
  'Ih+JT+n+WeQL8R3nfq1B39VtEjVaWRM7z3eBzvRn/7dmhr/9/F1Uk0Vjg17f1X6NloxVUcMru6imEq+mKi7yJnQUG2dnRKT93wvG',
  'zr0ghVLdVANPh84fn6n86JsuBipRJRVrL2mEemgkVDaJlKn2DOiaKwQ69iMTJsbZVkbbXNlF3YmOkzhvwr//25mrKjtWV2M6buvI',
  'aJu3LtAeL5o9bhYi7bso8GIzpWeHrj/kUayFPwQAAA==',
];

export function placesDatabase(): Buffer {
  return gunzipSync(Buffer.from(PLACES.join(''), 'base64'));
}

const HOUR_MS = 3_600_000;
/** A baseline knows what is usual after a day and from six intervals on. */
const PAST_HOURS = [30, 29, 28, 27, 26, 25, 24, 23];
const POLL_MS = 50;
/** On a machine that has much else to do. */
const STORED_MS_MAX = 30_000;

/**
 * What a nightly report took the day before, told as programs do that speak no OpenTelemetry. One after the other: a rule does not
 * wait for what comes hours late. Resolves when all of it is stored.
 */
export async function tellPast(url: string, client: Client): Promise<void> {
  const nowMs = Date.now();
  for (const hours of PAST_HOURS) {
    const timeMs = nowMs - hours * HOUR_MS;
    const time = new Date(timeMs).toISOString();
    const id = `past-${timeMs}`;
    const target = { type: 'endpoint', id: 'invoices', name: 'gateway GET /invoices' };
    await post(`${url}/v1/access`, {
      ...{ id, time, service: 'gateway', actor: { type: 'service', id: 'nightly-report' }, action: 'GET', target },
      ...{ outcome: 'success', duration: `${20 + (hours % 5)}ms` },
    });
    const from = new Date(timeMs - HOUR_MS).toISOString();
    for (const untilMs = Date.now() + STORED_MS_MAX; Date.now() < untilMs; await sleep(POLL_MS)) {
      const found = await client.search({ q: `audit.evidence.id: ${id}`, from, inner: false });
      if (found.length > 0) break;
    }
  }
}

/** A line of pgaudit, as a Collector beside the database reads it from its log: a statement that no request asked for. */
export async function tellStatement(url: string): Promise<void> {
  const nowMs = Date.now();
  const line = {
    timestamp: new Date(nowMs).toISOString().replace('T', ' ').replace('Z', ' UTC'),
    ...{ user: 'dba', dbname: 'clinic', pid: 4712, remote_host: '10.20.0.99', remote_port: 50_114 },
    ...{
      session_id: `${Math.floor(nowMs / 1000).toString(16)}.1268`,
      line_num: 6,
      error_severity: 'LOG',
      application_name: 'psql',
    },
    message: 'AUDIT: SESSION,1,1,READ,SELECT,TABLE,public.notes,select * from notes,<none>',
  };
  const logRecords = [{ timeUnixNano: `${nowMs}000000`, body: { stringValue: JSON.stringify(line) } }];
  const attributes = [{ key: 'service.name', value: { stringValue: 'clinic-db' } }];
  await post(`${url}/v1/logs`, { resourceLogs: [{ resource: { attributes }, scopeLogs: [{ logRecords }] }] });
}

async function post(url: string, body: object): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
  if (!response.ok) throw new AppError('internal', `${url}: ${response.status} ${await response.text()}`);
  await response.arrayBuffer();
}
