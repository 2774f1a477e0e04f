import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { errors } from '@elastic/elasticsearch';
import { AppError, type ErrorCode } from '../../core/errors.ts';
import { type Connection, isTransient } from './connection.ts';
import { Pace, REQUEST_BYTES_MAX } from './pace.ts';
import { RequestBuffers } from './request-buffers.ts';
import { type BulkOutcome, verdictOn } from './verdicts.ts';

const ATTEMPTS_MAX = 5;
const BACKOFF_MS_FIRST = 200;
const BACKOFF_MS_MAX = 5_000;

/** Of the answer, only whether all went well, and else how each document fared. */
const ANSWER = { filter_path: 'errors,items.*.status,items.*.error' };

const DONE: BulkOutcome = { status: 200, type: '', reason: '' };

const LINE_END = 0x0a;

/** One action: serialised as it goes over the wire, without line ends. */
export interface BulkAction {
  /** That which the header names. */
  readonly index: string;
  /** `{"index":{…}}`, `{"create":{…}}` or `{"delete":{…}}` */
  readonly header: string;
  /** The document; absent for a delete. */
  readonly body?: string | Buffer;
}

interface BulkItem {
  readonly status?: number;
  readonly error?: {
    readonly type?: string;
    readonly reason?: string;
    readonly caused_by?: { readonly reason?: string };
  };
}

/** Sends bulk requests to one cluster, at its pace. */
export class Bulk {
  readonly pace = new Pace();
  readonly #connection: Connection;
  readonly #buffers = new RequestBuffers();
  readonly #done: (index: string, operations: number) => void;

  /** `done` is told how many operations an index has carried out: at least so many. */
  constructor(connection: Connection, done: (index: string, operations: number) => void) {
    this.#connection = connection;
    this.#done = done;
  }

  /**
   * Sends actions and returns what became of each, in their order. What the cluster could not take for now is sent again with
   * full jitter; when it stays so, `store_unavailable` is thrown and some of the actions may have been carried out. A server
   * error that names no cause outside the document is thrown as `internal`.
   */
  async send(actions: readonly BulkAction[]): Promise<BulkOutcome[]> {
    const outcomes: BulkOutcome[] = new Array(actions.length);
    for (const request of split(actions)) await this.#sendUntilKnown(actions, request, outcomes);
    return outcomes;
  }

  async #sendUntilKnown(
    actions: readonly BulkAction[],
    request: readonly number[],
    outcomes: BulkOutcome[],
  ): Promise<void> {
    let pending = request;
    let lastReason = '';
    let code: ErrorCode = 'store_unavailable';
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
      const isLast = attempt === ATTEMPTS_MAX;
      const results = await this.#post(actions, pending);
      code = 'internal';
      const again: number[] = [];
      for (const [index, at] of pending.entries()) {
        const outcome = results[index] ?? { status: 503, type: '', reason: 'no answer for this document' };
        outcomes[at] = outcome;
        if (outcome === DONE) continue;
        const verdict = verdictOn(outcome, actions[at]?.body === undefined);
        // A 400 of no known name is tried again like the rest, but final in the end.
        const isFinal = verdict === 'done' || verdict === 'refused';
        if (isFinal || (isLast && verdict === 'unknown' && outcome.status === 400)) continue;
        again.push(at);
        lastReason = `${outcome.status} ${outcome.reason}`;
        if (verdict === 'cluster') code = 'store_unavailable';
      }
      if (again.length === 0) return;
      if (again.some((at) => isTransient(outcomes[at]?.status ?? 0))) this.pace.busy();
      pending = again;
      const backoffMs = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_FIRST * 2 ** attempt);
      if (!isLast) await sleep(randomInt(backoffMs));
    }
    throw new AppError(code, `Elasticsearch did not take ${pending.length} documents: ${lastReason}`);
  }

  async #post(actions: readonly BulkAction[], request: readonly number[]): Promise<BulkOutcome[]> {
    const body = this.#buffers.take(lengthOf(actions, request));
    fill(body, actions, request);
    const startedMs = performance.now();
    const response = await this.#connection.request(async (client) => {
      try {
        const parameters = { method: 'POST', path: '/_bulk', querystring: ANSWER, bulkBody: body };
        return await client.transport.request<{ errors?: boolean; items?: Record<string, BulkItem>[] }>(parameters);
      } catch (error) {
        const status = error instanceof errors.ResponseError ? (error.statusCode ?? 0) : 0;
        if (status === 413 || isTransient(status)) return { status };
        throw error;
      }
    });
    if (!('status' in response)) {
      // Answered in full, so it was read to its end. After any other answer some of it may still be on its way.
      this.#buffers.giveBack(body);
      this.pace.answered(body.length, performance.now() - startedMs);
      const outcomes =
        response.errors === false
          ? request.map(() => DONE)
          : (response.items ?? []).map((item) => outcomeOf(Object.values(item)[0] ?? {}));
      this.#count(actions, request, outcomes);
      return outcomes;
    }
    if (response.status !== 413)
      return request.map(() => ({ status: response.status, type: '', reason: 'the cluster is busy' }));
    if (request.length === 1)
      return [{ status: 400, type: 'content_too_long_exception', reason: 'larger than the cluster takes (413)' }];
    const half = Math.ceil(request.length / 2);
    const first = await this.#post(actions, request.slice(0, half));
    return [...first, ...(await this.#post(actions, request.slice(half)))];
  }

  #count(actions: readonly BulkAction[], request: readonly number[], outcomes: readonly BulkOutcome[]): void {
    let [index, operations] = ['', 0];
    for (const [number, at] of request.entries()) {
      if ((outcomes[number]?.status ?? 500) >= 300) continue;
      const { index: its = '' } = actions[at] ?? {};
      if (its !== index && operations > 0) {
        this.#done(index, operations);
        operations = 0;
      }
      index = its;
      operations++;
    }
    if (operations > 0) this.#done(index, operations);
  }
}

/** Places of the actions of each request. */
function split(actions: readonly BulkAction[]): number[][] {
  const requests: number[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const [at, action] of actions.entries()) {
    const length = action.header.length + (action.body?.length ?? 0);
    if (bytes + length > REQUEST_BYTES_MAX) {
      requests.push([]);
      bytes = 0;
    }
    requests.at(-1)?.push(at);
    bytes += length;
  }
  return requests;
}

/** Bytes of these actions as they go over the wire. */
function lengthOf(actions: readonly BulkAction[], request: readonly number[]): number {
  let length = 0;
  for (const index of request) {
    const { header = '', body } = actions[index] ?? {};
    length += Buffer.byteLength(header) + 1;
    if (body !== undefined) length += Buffer.byteLength(body) + 1;
  }
  return length;
}

/** What is there as bytes is copied once, and no text of the whole is made. */
function fill(bytes: Buffer, actions: readonly BulkAction[], request: readonly number[]): void {
  let at = 0;
  for (const index of request) {
    const { header = '', body } = actions[index] ?? {};
    at += bytes.write(header, at);
    bytes[at++] = LINE_END;
    if (body === undefined) continue;
    at += typeof body === 'string' ? bytes.write(body, at) : body.copy(bytes, at);
    bytes[at++] = LINE_END;
  }
}

function outcomeOf({ status = 500, error }: BulkItem): BulkOutcome {
  if (!error) return { status, type: '', reason: '' };
  const causes = [error.type, error.reason, error.caused_by?.reason].filter((cause) => cause !== undefined);
  return { status, type: error.type ?? '', reason: causes.join(': ') };
}
