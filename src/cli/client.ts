import { type IncomingMessage, request as requestPlainly } from 'node:http';
import { type RequestOptions, request as requestSecurely } from 'node:https';
import { json, text } from 'node:stream/consumers';
import type { ErrorAnswer } from '../api/contract.ts';
import { AppError, describeError, ERROR_CODES, type ErrorCode } from '../core/errors.ts';

/** Where the running Spantrail answers, e.g. `http://127.0.0.1:4320`. */
export interface Client {
  get<T>(path: string, parameters?: Parameters, signal?: AbortSignal): Promise<T>;
  /** As `get`, for what changes something. */
  send<T>(method: 'POST' | 'DELETE', path: string, parameters?: Parameters): Promise<T>;
  /** The answer's bytes as they come, for streams. Ends quietly when the signal aborts. */
  open(
    path: string,
    parameters?: Parameters,
    signal?: AbortSignal,
    method?: Method,
  ): Promise<AsyncIterable<Uint8Array>>;
}

type Method = 'GET' | 'POST' | 'DELETE';

export type Parameters = Readonly<Record<string, string | number | boolean | undefined>>;

/** The server finds fault with the query text; `column` counts from 1. */
export class QueryMistake extends AppError {
  readonly query: string;
  readonly column: number;

  constructor(message: string, query: string, column: number) {
    super('usage', message);
    this.query = query;
    this.column = column;
  }
}

/** What a client proves itself by, and whom it believes. */
export interface Trust {
  /** Sent as `authorization: Bearer`. */
  readonly token?: string | undefined;
  /** PEM, instead of the authorities that the machine knows. */
  readonly ca?: string | undefined;
  /** PEM of a client's certificate and of its key. */
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

/** Nothing that is asked takes longer until its answer begins. */
const ANSWER_MS_MAX = 300_000;

/**
 * Throws AppError: `usage` for an address or request that cannot be meant, `unavailable` when nothing answers or the answer
 * breaks off, `unauthenticated` when the server does not prove who it is, else with the code and words of the server.
 */
export function createClient(baseUrl: string, { token, ...tls }: Trust = {}): Client {
  if (!/^https?:\/\/[^/]/.test(baseUrl) || !URL.canParse(baseUrl)) {
    throw new AppError('usage', `"${baseUrl}" is no address of a Spantrail; it looks like http://127.0.0.1:4320`);
  }
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const request = async (
    method: Method,
    path: string,
    parameters: Parameters = {},
    signal?: AbortSignal,
  ): Promise<IncomingMessage> => {
    const url = new URL(path, baseUrl);
    for (const [name, value] of Object.entries(parameters)) {
      if (value !== undefined && value !== '') url.searchParams.set(name, String(value));
    }
    let response: IncomingMessage;
    try {
      response = await begin(url, { method, headers, ...(signal && { signal }), ...tls });
    } catch (cause) {
      if (signal?.aborted) throw cause;
      const words = whyNotBelieved(cause, baseUrl);
      if (words !== undefined) throw new AppError('unauthenticated', words, { cause });
      throw new AppError('unavailable', whyNoAnswer(cause, baseUrl), { cause });
    }
    const { statusCode = 0 } = response;
    if (statusCode < 200 || statusCode > 299) throw toError(statusCode, await text(response), parameters['q']);
    return response;
  };
  const ask = async <T>(method: Method, path: string, parameters?: Parameters, signal?: AbortSignal) => {
    const response = await request(method, path, parameters, signal);
    try {
      return (await json(response)) as T;
    } catch (cause) {
      throw new AppError('internal', `what answers at ${baseUrl} is no Spantrail, or its answer broke off`, { cause });
    }
  };
  return {
    get: (path, parameters, signal) => ask('GET', path, parameters, signal),
    send: (method, path, parameters) => ask(method, path, parameters),
    open: async (path, parameters, signal, method = 'GET') =>
      chunks(await request(method, path, parameters, signal), signal),
  };
}

/** Not `fetch`: that cannot be told which authority and certificate to use. */
function begin(url: URL, options: RequestOptions): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = (url.protocol === 'https:' ? requestSecurely : requestPlainly)(url, options, resolve);
    request.once('error', reject);
    request.setTimeout(ANSWER_MS_MAX, () => request.destroy(new Error('it takes too long')));
    request.once('response', () => request.setTimeout(0));
    request.end();
  });
}

/** Codes of OpenSSL and Node for a certificate that nobody vouches for here. */
const UNKNOWN_AUTHORITY =
  /^(?:DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_VERIFY_LEAF_SIGNATURE|UNABLE_TO_GET_ISSUER_CERT(?:_LOCALLY)?|CERT_SIGNATURE_FAILURE)$/;

/** What is wrong with the server's certificate, and what to do. */
function whyNotBelieved(cause: unknown, baseUrl: string): string | undefined {
  const { code = '' } = cause as NodeJS.ErrnoException;
  if (UNKNOWN_AUTHORITY.test(code)) {
    return `the certificate of ${baseUrl} is not signed by an authority that is known here; give the file of its authority with --ca (SPANTRAIL_CA)`;
  }
  if (code === 'CERT_HAS_EXPIRED')
    return `the certificate of ${baseUrl} has expired; its administrator has to renew it`;
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return `the certificate of ${baseUrl} is for another name: ${describeError(cause)}; name the server as its certificate does`;
  }
  return undefined;
}

function whyNoAnswer(cause: unknown, baseUrl: string): string {
  const { code = '' } = cause as NodeJS.ErrnoException;
  if (code.startsWith('ERR_SSL_') || code === 'EPROTO') {
    return `${baseUrl} does not speak TLS as it should (${describeError(cause)}); without TLS its address begins with http://`;
  }
  if (code.startsWith('HPE_') || code === 'ECONNRESET' || code === 'EPIPE') {
    return baseUrl.startsWith('https:')
      ? `${baseUrl} broke off; it may ask for a client certificate (--cert and --key), or not take the one given`
      : `what answers at ${baseUrl} broke off; if it speaks TLS, its address begins with https://`;
  }
  return `no Spantrail answers at ${baseUrl}; start one with "spantrail serve" or name another with --url`;
}

async function* chunks(response: IncomingMessage, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
  try {
    yield* response;
  } catch (cause) {
    if (signal?.aborted) return;
    throw new AppError('unavailable', `the answer broke off: ${describeError(cause)}`, { cause });
  }
}

function toError(status: number, body: string, query: Parameters[string]): AppError {
  try {
    const { error } = JSON.parse(body) as ErrorAnswer;
    if (error.column !== undefined) {
      return new QueryMistake(error.message.replace(/^q: | \(column \d+\)$/g, ''), String(query ?? ''), error.column);
    }
    // What the server calls a bad request was bad usage of the command line.
    if (error.code === 'bad_request') return new AppError('usage', error.message);
    if (error.code === 'unauthenticated') {
      return new AppError('unauthenticated', `${error.message}; a token is given in SPANTRAIL_TOKEN or with --token`);
    }
    return new AppError(error.code in ERROR_CODES ? (error.code as ErrorCode) : 'internal', error.message);
  } catch {
    return new AppError('internal', `the server answered ${status}: ${body.slice(0, 200)}`);
  }
}
