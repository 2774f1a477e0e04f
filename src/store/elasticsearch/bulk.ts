import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { errors } from '@elastic/elasticsearch';
import { AppError, type ErrorCode } from '../../core/errors.ts';
import { type Connection, isTransient } from './connection.ts';
import { type BulkOutcome, verdictOn } from './verdicts.ts';

/** Soft limit of one request. Elasticsearch takes 100 MB; it indexes smaller ones with less memory and more evenly. */
const REQUEST_CHARS_MAX = 5 * 1024 * 1024;

/** Requests under way at once: enough to hide the way to the cluster, few enough to leave it room. */
const REQUESTS_MAX = 4;

const ATTEMPTS_MAX = 5;
const BACKOFF_MS_FIRST = 200;
const BACKOFF_MS_MAX = 5_000;

/** Of the answer, only what says how each document fared. */
const ANSWER = { filter_path: 'items.*.status,items.*.error' };

/** One action: serialised as it goes over the wire, without line ends. */
export interface BulkAction {
  /** `{"index":{…}}`, `{"create":{…}}` or `{"delete":{…}}` */
  readonly header: string;
  /** The document; absent for a delete. */
  readonly body?: string;
}

interface BulkItem {
  readonly status?: number;
  readonly error?: {
    readonly type?: string;
    readonly reason?: string;
    readonly caused_by?: { readonly reason?: string };
  };
}

/**
 * Sends actions and returns what became of each, in their order. What the cluster could not take for now is sent again with
 * full jitter; when it stays so, `store_unavailable` is thrown and some of the actions may have been carried out. A server
 * error that names no cause outside the document is thrown as `internal`.
 */
export async function sendBulk(connection: Connection, actions: readonly BulkAction[]): Promise<BulkOutcome[]> {
  const outcomes: BulkOutcome[] = new Array(actions.length);
  const requests = split(actions);
  const work = async () => {
    for (let request = requests.shift(); request; request = requests.shift()) {
      await sendUntilKnown(connection, actions, request, outcomes);
    }
  };
  await Promise.all(Array.from({ length: Math.min(REQUESTS_MAX, requests.length) }, work));
  return outcomes;
}

/** Indices of the actions of each request. */
function split(actions: readonly BulkAction[]): number[][] {
  const requests: number[][] = [];
  let characters = Number.POSITIVE_INFINITY;
  for (const [at, action] of actions.entries()) {
    const length = action.header.length + (action.body?.length ?? 0);
    if (characters + length > REQUEST_CHARS_MAX) {
      requests.push([]);
      characters = 0;
    }
    requests.at(-1)?.push(at);
    characters += length;
  }
  return requests;
}

async function sendUntilKnown(
  connection: Connection,
  actions: readonly BulkAction[],
  request: readonly number[],
  outcomes: BulkOutcome[],
): Promise<void> {
  let pending = request;
  let lastReason = '';
  let code: ErrorCode = 'store_unavailable';
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const isLast = attempt === ATTEMPTS_MAX;
    const results = await send(connection, actions, pending);
    code = 'internal';
    const again: number[] = [];
    for (const [index, at] of pending.entries()) {
      const outcome = results[index] ?? { status: 503, type: '', reason: 'no answer for this document' };
      outcomes[at] = outcome;
      const verdict = verdictOn(outcome, actions[at]?.body === undefined);
      // A 400 of no known name is tried again like the rest, but final in the end.
      const isFinal = verdict === 'done' || verdict === 'refused';
      if (isFinal || (isLast && verdict === 'unknown' && outcome.status === 400)) continue;
      again.push(at);
      lastReason = `${outcome.status} ${outcome.reason}`;
      if (verdict === 'cluster') code = 'store_unavailable';
    }
    if (again.length === 0) return;
    pending = again;
    const backoffMs = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_FIRST * 2 ** attempt);
    if (!isLast) await sleep(randomInt(backoffMs));
  }
  throw new AppError(code, `Elasticsearch did not take ${pending.length} documents: ${lastReason}`);
}

async function send(
  connection: Connection,
  actions: readonly BulkAction[],
  request: readonly number[],
): Promise<BulkOutcome[]> {
  let lines = '';
  for (const at of request) {
    const { header = '', body } = actions[at] ?? {};
    lines += body === undefined ? `${header}\n` : `${header}\n${body}\n`;
  }
  const response = await connection.request(async (client) => {
    try {
      const parameters = { method: 'POST', path: '/_bulk', querystring: ANSWER, bulkBody: lines };
      return await client.transport.request<{ items: Record<string, BulkItem>[] }>(parameters);
    } catch (error) {
      const status = error instanceof errors.ResponseError ? (error.statusCode ?? 0) : 0;
      if (status === 413 || isTransient(status)) return { status };
      throw error;
    }
  });
  if ('items' in response) return response.items.map((item) => outcomeOf(Object.values(item)[0] ?? {}));
  if (response.status !== 413)
    return request.map(() => ({ status: response.status, type: '', reason: 'the cluster is busy' }));
  if (request.length === 1)
    return [{ status: 400, type: 'content_too_long_exception', reason: 'larger than the cluster takes (413)' }];
  const half = Math.ceil(request.length / 2);
  const first = await send(connection, actions, request.slice(0, half));
  return [...first, ...(await send(connection, actions, request.slice(half)))];
}

function outcomeOf({ status = 500, error }: BulkItem): BulkOutcome {
  if (!error) return { status, type: '', reason: '' };
  const causes = [error.type, error.reason, error.caused_by?.reason].filter((cause) => cause !== undefined);
  return { status, type: error.type ?? '', reason: causes.join(': ') };
}
