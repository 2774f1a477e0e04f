import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, type ClientOptions, errors } from '@elastic/elasticsearch';
import { AppError } from '../../core/errors.ts';
import { ExactSerializer, NO_SHARD } from './exact.ts';

export interface ElasticsearchSettings {
  /** Nodes of the cluster. */
  readonly urls: readonly string[];
  /** Instead of them, for a deployment on Elastic Cloud. */
  readonly cloudId?: string | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** Instead of user and password. */
  readonly apiKey?: string | undefined;
  /** PEM file of the authority that signed the servers' certificates. */
  readonly caFile?: string | undefined;
  /** Time span of one index, in UTC. Records are retired by deleting whole indices. */
  readonly indexPeriod: 'day' | 'week' | 'month';
  /** Indices all of whose records are older are deleted; undefined keeps everything. Milliseconds. */
  readonly retentionMs?: number | undefined;
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
  /**
   * Runs one request that only reads. An index that was just made has no shard at work yet, on a busy cluster for a moment: waits
   * for it. `isStarting` tells an answer that says so of some documents.
   */
  read<T>(work: (client: Client) => Promise<T>, isStarting?: (answer: T) => boolean): Promise<T>;
}

/** Three seconds in all; then whoever asked tries again by himself. */
const START_TRIES = 10;
const START_WAIT_MS = 300;

export async function connect(settings: ElasticsearchSettings): Promise<Connection> {
  const { urls, cloudId, username, password = '', apiKey, caFile } = settings;
  const auth = apiKey !== undefined ? { apiKey } : username !== undefined ? { username, password } : undefined;
  const place: ClientOptions = cloudId === undefined ? { nodes: [...urls] } : { cloud: { id: cloudId } };
  const client = new Client({
    ...place,
    requestTimeout: settings.requestTimeoutMs,
    // Past nodes that are away to one that is there.
    maxRetries: Math.max(1, urls.length - 1),
    Serializer: ExactSerializer,
    ...(auth && { auth }),
    ...(caFile !== undefined && { tls: { ca: await readAuthority(caFile) } }),
  });
  const name = cloudId === undefined ? urls.map(withoutPassword).join(', ') : `cloud ${cloudId.split(':')[0]}`;
  const request = async <T>(work: (client: Client) => Promise<T>): Promise<T> => {
    try {
      return await work(client);
    } catch (error) {
      throw asAppError(error, name);
    }
  };
  const read = async <T>(work: (client: Client) => Promise<T>, isStarting?: (answer: T) => boolean): Promise<T> => {
    for (let tries = 1; ; tries++) {
      try {
        const answer = await request(work);
        if (!isStarting?.(answer) || tries === START_TRIES) return answer;
      } catch (error) {
        if (!hasNoShard(error) || tries === START_TRIES) throw error;
      }
      await sleep(START_WAIT_MS);
    }
  };
  return { client, request, read };
}

/** A search of which every shard is still starting fails as a whole, without a reason of its own. */
function hasNoShard(error: unknown): boolean {
  const cause = error instanceof AppError ? error.cause : error;
  if (!(cause instanceof errors.ResponseError) || cause.statusCode !== 503) return false;
  const failure = (cause.body as { error?: { type?: string } } | undefined)?.error;
  return failure?.type === NO_SHARD || failure?.type === 'search_phase_execution_exception';
}

export function isTransient(status: number): boolean {
  return TRANSIENT.has(status);
}

async function readAuthority(path: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new AppError('config', `store.elasticsearch.caFile: ${path} cannot be read`, { cause });
  }
  try {
    // Without this a file of something else would be passed over in silence, and every server be a stranger.
    new X509Certificate(text);
    return text;
  } catch (cause) {
    throw new AppError('config', `store.elasticsearch.caFile: ${path} holds no certificate in PEM`, { cause });
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
      const words = status === 401 ? 'refuses our credentials' : 'does not let this user do that';
      return new AppError('store_unavailable', `Elasticsearch at ${place} ${words}: ${reason}`, { cause: error });
    }
    if (status >= 500) return new AppError('internal', `Elasticsearch failed (${status}): ${reason}`, { cause: error });
    return new AppError('bad_request', `Elasticsearch refuses the request (${status}): ${reason}`, { cause: error });
  }
  if (error instanceof errors.ElasticsearchClientError) {
    const words = describeSilence(error);
    return new AppError('store_unavailable', `Elasticsearch at ${place} ${words}: ${error.message}`, { cause: error });
  }
  return error;
}

/** What the names and words of Node's TLS errors mean for the settings. */
const TLS_FAILURES: readonly (readonly [RegExp, string])[] = [
  [/CERT_HAS_EXPIRED|certificate has expired/, 'shows a certificate that has expired'],
  [
    /CERT_NOT_YET_VALID|certificate is not yet valid/,
    'shows a certificate that does not count yet (or this clock is behind)',
  ],
  [
    /ERR_TLS_CERT_ALTNAME_INVALID|match certificate's altnames/,
    'shows a certificate for another name than the address has',
  ],
  [
    /self.signed|unable.to.verify|unable.to.get.(local.)?issuer|CERT_SIGNATURE_FAILURE/i,
    'shows a certificate that nobody known vouches for; store.elasticsearch.caFile names the authority that signed it',
  ],
  [/wrong.version.number|packet.length.too.long/i, 'speaks no TLS there; its address begins with http'],
  [/other side closed|socket hang up/, 'closes the connection; if it speaks TLS, its address begins with https'],
];

function describeSilence(error: errors.ElasticsearchClientError): string {
  const codes: string[] = [];
  // The library's own error is the cause of the client's.
  for (let cause: unknown = error; cause instanceof Error && codes.length < 5; cause = cause.cause) {
    codes.push(`${(cause as NodeJS.ErrnoException).code ?? ''} ${cause.message}`);
  }
  const text = codes.join(' ');
  return TLS_FAILURES.find(([names]) => names.test(text))?.[1] ?? 'does not answer';
}

/** Also for an index that is blocked: the server has one status for both. */
export function isForbidden(error: unknown): boolean {
  const cause = error instanceof AppError ? error.cause : error;
  return cause instanceof errors.ResponseError && cause.statusCode === 403;
}

function reasonOf(error: errors.ResponseError): string {
  const body = error.body as { error?: { reason?: string; root_cause?: { reason?: string }[] } } | undefined;
  const cause = body?.error;
  // A search none of whose shards is at work has a type and an empty reason.
  return cause?.root_cause?.[0]?.reason || cause?.reason || error.message;
}
