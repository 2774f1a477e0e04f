import type { ErrorAnswer } from '../api/contract.ts';
import { AppError, describeError, ERROR_CODES, type ErrorCode } from '../core/errors.ts';

/** Where the running Spantrail answers, e.g. `http://127.0.0.1:4320`. */
export interface Client {
  get<T>(path: string, parameters?: Parameters): Promise<T>;
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

/**
 * Throws AppError: `usage` for an address or request that cannot be meant, `unavailable` when nothing answers or the answer
 * breaks off, else with the code and words of the server.
 */
export function createClient(baseUrl: string): Client {
  if (!/^https?:\/\/[^/]/.test(baseUrl) || !URL.canParse(baseUrl)) {
    throw new AppError('usage', `"${baseUrl}" is no address of a Spantrail; it looks like http://127.0.0.1:4320`);
  }
  const request = async (
    method: Method,
    path: string,
    parameters: Parameters = {},
    signal?: AbortSignal,
  ): Promise<Response> => {
    const url = new URL(path, baseUrl);
    for (const [name, value] of Object.entries(parameters)) {
      if (value !== undefined && value !== '') url.searchParams.set(name, String(value));
    }
    let response: Response;
    try {
      response = await fetch(url, signal ? { method, signal } : { method });
    } catch (cause) {
      if (signal?.aborted) throw cause;
      const words = `no Spantrail answers at ${baseUrl}; start one with "spantrail serve" or name another with --url`;
      throw new AppError('unavailable', words, { cause });
    }
    if (!response.ok) throw await toError(response, String(parameters['q'] ?? ''));
    return response;
  };
  const ask = async <T>(method: Method, path: string, parameters?: Parameters) => {
    const response = await request(method, path, parameters);
    try {
      return (await response.json()) as T;
    } catch (cause) {
      throw new AppError('internal', `what answers at ${baseUrl} is no Spantrail, or its answer broke off`, { cause });
    }
  };
  return {
    get: (path, parameters) => ask('GET', path, parameters),
    send: (method, path, parameters) => ask(method, path, parameters),
    open: async (path, parameters, signal, method = 'GET') =>
      chunks(await request(method, path, parameters, signal), signal),
  };
}

async function* chunks(response: Response, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
  try {
    if (response.body) yield* response.body;
  } catch (cause) {
    if (signal?.aborted) return;
    throw new AppError('unavailable', `the answer broke off: ${describeError(cause)}`, { cause });
  }
}

async function toError(response: Response, query: string): Promise<AppError> {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text) as ErrorAnswer;
    if (error.column !== undefined) {
      return new QueryMistake(error.message.replace(/^q: | \(column \d+\)$/g, ''), query, error.column);
    }
    // What the server calls a bad request was bad usage of the command line.
    if (error.code === 'bad_request') return new AppError('usage', error.message);
    return new AppError(error.code in ERROR_CODES ? (error.code as ErrorCode) : 'internal', error.message);
  } catch {
    return new AppError('internal', `the server answered ${response.status}: ${text.slice(0, 200)}`);
  }
}
