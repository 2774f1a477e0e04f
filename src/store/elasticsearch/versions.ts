import { AppError } from '../../core/errors.ts';
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
    if (error instanceof AppError && (isForbidden(error) || error.code === 'bad_request')) return [];
    throw error;
  }
  const nodes = new Map(Object.values(answer.nodes ?? {}).map(({ name = '', version = '' }) => [version, name]));
  return [...nodes].filter(([version]) => !isSupported(version)).map(([version, name]) => describe(version, name));
}

function isSupported(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (Number.isNaN(major) || version === '') return true;
  return major === OLDEST.major ? minor >= OLDEST.minor : major > OLDEST.major && major <= MAJOR_NEWEST;
}

function describe(version: string, name: string): string {
  return `Elasticsearch ${version} (node ${name}) is no version that Spantrail works with; ${SUPPORTED}`;
}
