import { errors } from '@elastic/elasticsearch';
import { AppError, describeError } from '../../core/errors.ts';
import { type Connection, isForbidden } from './connection.ts';

/** The first server that has all that is used here; the client speaks to the next major version, too, and not to later ones. */
const OLDEST = { major: 8, minor: 19 };
const MAJOR_NEWEST = 9;

export const SUPPORTED = '8.19 and 9 are supported';

interface NodesAnswer {
  readonly nodes?: Readonly<Record<string, { readonly name?: string; readonly version?: string }>>;
}

/** A line for each version of a node that is not supported. None when the user may not ask, or nobody answers that. */
export async function unsupportedServers(connection: Connection): Promise<string[]> {
  const path = '/_nodes/_all/http?filter_path=nodes.*.name,nodes.*.version';
  let answer: NodesAnswer;
  try {
    answer = await connection.request((client) => client.transport.request<NodesAnswer>({ method: 'GET', path }));
  } catch (error) {
    // The client names its version in each request. Servers that are too far from it refuse that before they tell their own.
    if (isForeignDialect(error))
      return [`${describeError(error)}: the server is of no version that Spantrail works with; ${SUPPORTED}`];
    if (error instanceof AppError && (isForbidden(error) || error.code === 'bad_request')) return [];
    throw error;
  }
  const nodes = new Map(Object.values(answer.nodes ?? {}).map(({ name = '', version = '' }) => [version, name]));
  return [...nodes].filter(([version]) => !isSupported(version)).map(([version, name]) => describe(version, name));
}

function isForeignDialect(error: unknown): boolean {
  const cause = error instanceof AppError ? error.cause : undefined;
  if (!(cause instanceof errors.ResponseError)) return false;
  return cause.statusCode === 406 || JSON.stringify(cause.body ?? '').includes('media_type_header_exception');
}

function isSupported(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (Number.isNaN(major) || version === '') return true;
  return major === OLDEST.major ? minor >= OLDEST.minor : major > OLDEST.major && major <= MAJOR_NEWEST;
}

function describe(version: string, name: string): string {
  return `Elasticsearch ${version} (node ${name}) is no version that Spantrail works with; ${SUPPORTED}`;
}
