import { readFile } from 'node:fs/promises';
import { Client, errors } from '@elastic/elasticsearch';
import { AppError } from '../../core/errors.ts';
import { ExactSerializer } from './exact.ts';

export interface ElasticsearchSettings {
  /** Nodes of the cluster. */
  readonly urls: readonly string[];
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** Instead of user and password. */
  readonly apiKey?: string | undefined;
  /** PEM file of the authority that signed the servers' certificates. */
  readonly caFile?: string | undefined;
  /** Time span of one index, in UTC. Records are retired by deleting whole indices. */
  readonly indexPeriod: 'day' | 'week' | 'month';
  /** Copies of each shard besides the first. */
  readonly replicas: number;
  /** How soon what was written can be found. */
  readonly refreshIntervalMs: number;
  /** A request without an answer for this long has failed; what it was to write is written again. */
  readonly requestTimeoutMs: number;
}

/** Statuses after which the same request may well succeed. */
const TRANSIENT = new Set([408, 429, 502, 503, 504]);

/** A client of the cluster, and how its failures read. Version 8 of the client speaks to servers 8 and 9. */
export interface Connection {
  readonly client: Client;
  /** Runs one request. What a retry may mend becomes `store_unavailable`, what the server calls wrong `bad_request`. */
  request<T>(work: (client: Client) => Promise<T>): Promise<T>;
}

export async function connect(settings: ElasticsearchSettings): Promise<Connection> {
  const { username, password = '', apiKey, caFile } = settings;
  const auth = apiKey !== undefined ? { apiKey } : username !== undefined ? { username, password } : undefined;
  const client = new Client({
    nodes: [...settings.urls],
    requestTimeout: settings.requestTimeoutMs,
    maxRetries: 1,
    Serializer: ExactSerializer,
    ...(auth && { auth }),
    ...(caFile !== undefined && { tls: { ca: await readAuthority(caFile) } }),
  });
  const place = settings.urls.map(withoutPassword).join(', ');
  const request = async <T>(work: (client: Client) => Promise<T>): Promise<T> => {
    try {
      return await work(client);
    } catch (error) {
      throw asAppError(error, place);
    }
  };
  return { client, request };
}

export function isTransient(status: number): boolean {
  return TRANSIENT.has(status);
}

async function readAuthority(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new AppError('config', `store.elasticsearch.caFile: ${path} cannot be read`, { cause });
  }
}

function withoutPassword(url: string): string {
  return URL.canParse(url) ? new URL(url).origin : url;
}

function asAppError(error: unknown, place: string): unknown {
  if (error instanceof errors.ResponseError) {
    const status = error.statusCode ?? 0;
    const reason = reasonOf(error);
    if (isTransient(status)) {
      return new AppError('store_unavailable', `Elasticsearch at ${place} is overloaded (${status}): ${reason}`, {
        cause: error,
      });
    }
    if (status === 401 || status === 403) {
      return new AppError('store_unavailable', `Elasticsearch at ${place} refuses our credentials: ${reason}`, {
        cause: error,
      });
    }
    if (status >= 500) return new AppError('internal', `Elasticsearch failed (${status}): ${reason}`, { cause: error });
    return new AppError('bad_request', `Elasticsearch refuses the request (${status}): ${reason}`, { cause: error });
  }
  if (error instanceof errors.ElasticsearchClientError) {
    return new AppError('store_unavailable', `Elasticsearch at ${place} does not answer: ${error.message}`, {
      cause: error,
    });
  }
  return error;
}

function reasonOf(error: errors.ResponseError): string {
  const body = error.body as { error?: { reason?: string; root_cause?: { reason?: string }[] } } | undefined;
  const cause = body?.error;
  return cause?.root_cause?.[0]?.reason ?? cause?.reason ?? error.message;
}
