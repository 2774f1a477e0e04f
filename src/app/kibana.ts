import { readFileSync } from 'node:fs';
import { AppError, describeError } from '../core/errors.ts';

/** The data view, searches and dashboards, in a checkout as in a package. */
const OBJECTS_FILE = new URL('../../deploy/kibana/spantrail.ndjson', import.meta.url);
/** The first dashboard, for the line that says where to look. */
const FIRST_DASHBOARD = 'spantrail-overview';
/** An import writes a few dozen objects; a Kibana that says nothing for this long will not. */
const REQUEST_TIMEOUT_MS = 60_000;
/** The forms of the objects are those of this version, and Kibana refuses what is newer than itself. */
const OLDEST: readonly [number, number] = [8, 19];
/** Objects named when an import fails; one fault usually has them all. */
const MISTAKES_SHOWN_MAX = 5;

export interface KibanaTarget {
  /** Address of Kibana with its base path, e.g. `https://kibana.example.org/ops`. */
  readonly url: string;
  readonly space?: string | undefined;
  /** Where a click on a trace id leads, with `${trace_id}`; none leaves what the file says: a Spantrail on this machine. */
  readonly traceUrl?: string | undefined;
  /** KIBANA_API_KEY, or KIBANA_USERNAME and KIBANA_PASSWORD: secrets have no place on a command line. */
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export interface KibanaImport {
  readonly objects: number;
  /** Undefined where Kibana does not tell it to everybody. */
  readonly version: string | undefined;
  readonly dashboardUrl: string;
}

/**
 * Imports Spantrail's saved objects into a Kibana, over those of an earlier import. Throws AppError: `usage` for an address or
 * template that cannot be meant, `unavailable`, `unauthenticated`, `forbidden`, `not_found` (the space), else `internal` with
 * Kibana's own words.
 */
export async function importIntoKibana(target: KibanaTarget): Promise<KibanaImport> {
  const kibana = connect(target);
  const text = withTraceUrl(readFileSync(OBJECTS_FILE, 'utf8'), target.traceUrl);
  const expected = text.trimEnd().split('\n').length - 1;
  const version = await readVersion(kibana);
  const body = new FormData();
  body.set('file', new Blob([text], { type: 'application/ndjson' }), 'spantrail.ndjson');
  const path = `${kibana.space}/api/saved_objects/_import?overwrite=true`;
  const answer = (await kibana.ask('POST', path, body)) as ImportAnswer | undefined;
  if (answer?.success !== true || answer.successCount !== expected)
    throw new AppError('internal', describeMistakes(answer, expected));
  return {
    objects: expected,
    version,
    dashboardUrl: `${kibana.base}${kibana.space}/app/dashboards#/view/${FIRST_DASHBOARD}`,
  };
}

interface Kibana {
  readonly base: string;
  /** Empty for the default space. */
  readonly space: string;
  ask(method: 'GET' | 'POST', path: string, body?: FormData): Promise<unknown>;
}

interface ImportAnswer {
  readonly success?: boolean;
  readonly successCount?: number;
  readonly errors?: readonly {
    readonly type: string;
    readonly id: string;
    readonly error: { readonly type: string; readonly message?: string };
  }[];
}

function connect({ url, space, environment }: KibanaTarget): Kibana {
  if (!/^https?:\/\/[^/]/.test(url) || !URL.canParse(url)) {
    throw new AppError('usage', `"${url}" is no address of a Kibana; it looks like http://127.0.0.1:5601`);
  }
  const { origin, pathname, username } = new URL(url);
  if (username !== '') {
    throw new AppError('usage', 'a user does not belong into the address: set KIBANA_USERNAME and KIBANA_PASSWORD');
  }
  if (space !== undefined && !/^[a-z0-9_-]+$/.test(space)) {
    throw new AppError('usage', `"${space}" is no id of a space: a-z, 0-9, _ and -`);
  }
  const base = `${origin}${pathname.replace(/\/+$/, '')}`;
  const headers = { 'kbn-xsrf': 'spantrail', ...authorization(environment) };
  return {
    base,
    space: space === undefined || space === 'default' ? '' : `/s/${space}`,
    ask: async (method, path, body) => {
      const request = { method, headers, redirect: 'manual', signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) } as const;
      let response: Response;
      let text: string;
      try {
        response = await fetch(`${base}${path}`, body === undefined ? request : { ...request, body });
        text = await response.text();
      } catch (cause) {
        const why = describeError(cause instanceof Error && cause.cause ? cause.cause : cause);
        throw new AppError('unavailable', `no Kibana answers at ${base}: ${why}`, { cause });
      }
      return readAnswer({ base, space, status: response.status, text });
    },
  };
}

function authorization(environment: KibanaTarget['environment']): { authorization?: string } {
  const { KIBANA_API_KEY: apiKey, KIBANA_USERNAME: username, KIBANA_PASSWORD: password } = environment;
  if (apiKey) return { authorization: `ApiKey ${apiKey}` };
  if (!username) return {};
  return { authorization: `Basic ${Buffer.from(`${username}:${password ?? ''}`).toString('base64')}` };
}

interface Answer {
  readonly base: string;
  readonly space: string | undefined;
  readonly status: number;
  readonly text: string;
}

function readAnswer({ base, space, status, text }: Answer): unknown {
  const answer = parse(text);
  const words = answer && typeof answer['message'] === 'string' ? `: ${answer['message']}` : '';
  if (status === 401) {
    throw new AppError(
      'unauthenticated',
      `Kibana wants to know who asks: KIBANA_API_KEY, or KIBANA_USERNAME and KIBANA_PASSWORD${words}`,
    );
  }
  if (status === 403) {
    throw new AppError(
      'forbidden',
      `this user may not import: it needs "Saved Objects Management: All" in the space${words}`,
    );
  }
  if (status === 404 && answer) {
    const where =
      space === undefined ? `at ${base}; is its base path missing in the address?` : `in a space "${space}"`;
    throw new AppError('not_found', `Kibana imports nothing ${where}${words}`);
  }
  if (status === 502 || status === 503 || status === 504) {
    throw new AppError('unavailable', `Kibana at ${base} is not ready (${status})${words}`);
  }
  if (!answer) throw new AppError('usage', `what answers at ${base} is no Kibana (${status})`);
  if (status !== 200) throw new AppError('internal', `Kibana answered ${status}${words}`);
  return answer;
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

async function readVersion(kibana: Kibana): Promise<string | undefined> {
  const answer = (await kibana.ask('GET', '/api/status')) as { version?: { number?: unknown } };
  const version = answer.version?.number;
  if (typeof version !== 'string') return undefined;
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
    throw new AppError('config', `this Kibana is ${version}; the dashboards need ${OLDEST.join('.')} or newer`);
  }
  return version;
}

/** The data views' link on `trace.id`. Kibana writes the field's own value for `{{value}}`; it knows no other field there. */
function withTraceUrl(text: string, template: string | undefined): string {
  if (template === undefined) return text;
  if (!template.includes('${trace_id}') || template.includes('${span_id}') || !/^https?:\/\//.test(template)) {
    const example = '--trace-url http://127.0.0.1:16686/trace/${trace_id}';
    throw new AppError('usage', `"${template}" cannot be the link of a trace id: ${example}, without \${span_id}`);
  }
  const urlTemplate = template.replaceAll('${trace_id}', '{{value}}');
  const lines = text.split('\n').map((line) => {
    if (!line.includes('"type":"index-pattern"') || !line.includes('fieldFormatMap')) return line;
    const object = JSON.parse(line) as { attributes: { fieldFormatMap: string } };
    const formats = JSON.parse(object.attributes.fieldFormatMap) as Record<string, { params: Record<string, unknown> }>;
    const link = formats['trace.id'];
    if (link) link.params['urlTemplate'] = urlTemplate;
    object.attributes.fieldFormatMap = JSON.stringify(formats);
    return JSON.stringify(object);
  });
  return lines.join('\n');
}

function describeMistakes(answer: ImportAnswer | undefined, expected: number): string {
  const mistakes = (answer?.errors ?? []).map(
    ({ type, id, error }) => `${type} ${id}: ${error.message ?? error.type.replaceAll('_', ' ')}`,
  );
  const shown = mistakes.slice(0, MISTAKES_SHOWN_MAX);
  if (mistakes.length > shown.length) shown.push(`and ${mistakes.length - shown.length} more`);
  return [`Kibana took ${answer?.successCount ?? 0} of ${expected} objects`, ...shown].join('\n');
}
