import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { LookupFunction } from 'node:net';
import { allowedAddresses, type Resolve } from './address.ts';

/** Of an answer, what is read: enough for the reason of a refusal. */
const ANSWER_BYTES_MAX = 4096;

export interface PostOptions {
  readonly allowPrivate: boolean;
  /** PEM of a further authority. */
  readonly ca: string | undefined;
  readonly timeoutMs: number;
  readonly resolve: Resolve;
}

export interface PostAnswer {
  readonly status: number;
  /** The beginning of the body. */
  readonly text: string;
  readonly retryAfter: string | undefined;
}

/**
 * Posts once, over a connection of its own to an address that was checked. Redirects are answers like others: they are not
 * followed. Rejects when there is no answer in time.
 */
export async function post(
  url: URL,
  headers: Readonly<Record<string, string>>,
  body: string,
  options: PostOptions,
): Promise<PostAnswer> {
  const signal = AbortSignal.timeout(options.timeoutMs);
  const finding = allowedAddresses(url.hostname, options.allowPrivate, options.resolve);
  const addresses = await inTime(finding, signal, 'its name could not be resolved in time');
  const [first] = addresses;
  const lookup: LookupFunction = (_host, { all }, answer) => {
    if (all) answer(null, [...addresses]);
    else answer(null, first?.address ?? '', first?.family);
  };
  const { promise, resolve, reject } = Promise.withResolvers<PostAnswer>();
  const send = url.protocol === 'https:' ? requestHttps : requestHttp;
  const request = send(url, {
    method: 'POST',
    headers: { ...headers, 'content-length': String(Buffer.byteLength(body)) },
    agent: false,
    lookup,
    signal,
    ...(options.ca === undefined ? {} : { ca: options.ca }),
  });
  request.on('error', (error) => reject(signal.aborted ? new Error(late(options)) : error));
  request.on('response', (response) => {
    let text = '';
    const done = () => {
      const retryAfter = response.headers['retry-after'];
      resolve({ status: response.statusCode ?? 0, text: text.slice(0, ANSWER_BYTES_MAX), retryAfter });
      response.destroy();
    };
    response.setEncoding('utf8');
    response.on('data', (part: string) => {
      text += part;
      if (text.length > ANSWER_BYTES_MAX) done();
    });
    // The status has come: an answer that breaks off, or never ends, is that answer all the same.
    response.on('end', done).on('error', done);
  });
  request.end(body);
  return promise;
}

function late({ timeoutMs }: PostOptions): string {
  return `no answer within ${timeoutMs / 1000} s`;
}

/** Who does not answer holds nothing up: rejects with these words when the signal comes first. */
export async function inTime<T>(work: Promise<T>, signal: AbortSignal, words: string): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => reject(new Error(words));
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', abort);
    work.catch(() => undefined);
  }
}
