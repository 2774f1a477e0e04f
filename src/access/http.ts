import { SPAN_KIND, type Span, STATUS_CODE } from '../core/evidence.ts';
import type { AccessSections } from './access.ts';
import { clip, compact, countOf, NAMES, serviceOf, textOf } from './attributes.ts';
import {
  type Draft,
  errorOf,
  failed,
  headline,
  joined,
  type Recognition,
  type Result,
  SUCCEEDED,
  targetOf,
  typesOf,
} from './draft.ts';
import { graphqlOperation, targetOfOperation, typeOfOperation } from './graphql.ts';
import { clientOf, type OriginRules } from './origin.ts';
import { foldPath, plainRoute, readRoute, redactQuery, routeInName } from './route.ts';

const TYPE_BY_METHOD: Readonly<Record<string, string>> = { PUT: 'change', PATCH: 'change', DELETE: 'deletion' };

/** Path and query from the stable names, else out of `http.target` or the full URL of older instrumentations. */
export function locationOf(span: Span): { path?: string; query?: string } {
  const path = textOf(span.attributes, NAMES.urlPath);
  const query = textOf(span.attributes, NAMES.urlQuery);
  if (path !== undefined) return query === undefined ? { path } : { path, query };
  const target = textOf(span.attributes, NAMES.httpTarget) ?? textOf(span.attributes, NAMES.urlFull);
  if (target === undefined) return {};
  const local = target.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, '').replace(/#.*$/, '');
  const mark = local.indexOf('?');
  const found = mark < 0 ? local : local.slice(0, mark);
  return compact({ path: found === '' ? '/' : found, query: mark < 0 ? query : local.slice(mark + 1) || undefined });
}

/** Method and status of a server span that answered an HTTP request. */
export function readHttpServer(span: Span, { isSecret, origin }: Recognition): Draft | undefined {
  if (span.kind !== SPAN_KIND.server) return undefined;
  const stated = textOf(span.attributes, NAMES.httpMethod);
  if (stated === undefined) return undefined;
  const method = (stated === '_OTHER' ? textOf(span.attributes, NAMES.httpMethodOriginal) : stated) ?? stated;
  const action = method.toUpperCase();
  const status = countOf(span.attributes, NAMES.httpStatus);
  const service = serviceOf(span);
  const location = locationOf(span);
  const { route, row, path, place } = placeOf(span, action, location.path, isSecret);
  const result = resultOfHttp(span, status, service);
  const operation = graphqlOperation(span);
  return {
    preset: 'http.server',
    action: operation?.action ?? action,
    // A 401 is a failed authentication, whatever was asked for.
    category: status === 401 ? ['web', 'authentication'] : ['web'],
    type: typesOf(operation ? typeOfOperation(operation) : (TYPE_BY_METHOD[action] ?? 'access'), result),
    kind: 'event',
    target: operation
      ? targetOfOperation(operation, service)
      : targetOf('endpoint', row ?? (joined(service, place) || action), joined(service, action, place), service),
    ...result,
    sections: {
      http: httpSection(span, action, status, route),
      ...urlSections(span, path, location.query, isSecret),
      ...clientSections(span, origin),
    },
  };
}

/** Routes that take whatever is below them; the path tells more. */
const OPEN = /(?:^|\/)\**$/;

interface Place {
  readonly route?: string;
  readonly row?: string;
  /** Without secrets. */
  readonly path?: string;
  /** What stands for all requests of this kind: the route, else the path with ids folded. */
  readonly place: string;
}

/** Some instrumentations (Go's otelhttp) have the route in nothing but the span's name. */
function placeOf(span: Span, action: string, path: string | undefined, isSecret: (name: string) => boolean): Place {
  const stated = textOf(span.attributes, NAMES.httpRoute);
  const route = stated === undefined ? undefined : plainRoute(stated);
  if (path === undefined)
    return route === undefined ? { place: placeInName(span.name, action) } : { route, place: route };
  const candidate = route ?? routeInName(span.name);
  const read = candidate === undefined ? { path } : readRoute(candidate, path, isSecret);
  if (route !== undefined)
    return { route, ...read, place: read.row === undefined && OPEN.test(route) ? foldPath(path) : route };
  // A name that fits the path without parameters is the path itself.
  if (candidate === undefined || (read.row === undefined && read.path === path)) return { path, place: foldPath(path) };
  return { route: candidate, ...read, place: candidate };
}

function placeInName(name: string, action: string): string {
  const bare = name.replace(/^HTTP\s+/, '');
  if (bare === action) return '';
  return foldPath(bare.startsWith(`${action} `) ? bare.slice(action.length).trim() : bare);
}

function httpSection(span: Span, method: string, status: number | undefined, route: string | undefined) {
  const sent = countOf(span.attributes, NAMES.httpRequestBytes);
  const answered = countOf(span.attributes, NAMES.httpResponseBytes);
  const http: NonNullable<AccessSections['http']> = { request: { method } };
  if (sent !== undefined) http.request = { method, body: { bytes: sent } };
  if (status !== undefined || answered !== undefined) http.response = {};
  if (http.response && status !== undefined) http.response.status_code = status;
  if (http.response && answered !== undefined) http.response.body = { bytes: answered };
  if (route !== undefined) http.route = route;
  return http;
}

function urlSections(
  { attributes }: Span,
  path: string | undefined,
  query: string | undefined,
  isSecret: (name: string) => boolean,
): Pick<AccessSections, 'url'> {
  const address = textOf(attributes, NAMES.serverAddress);
  const domain = address?.includes(':') ? address.replace(/:\d+$/, '') : address;
  const scheme = textOf(attributes, NAMES.urlScheme);
  if (path === undefined && query === undefined && domain === undefined && scheme === undefined) return {};
  const url: NonNullable<AccessSections['url']> = {};
  if (path !== undefined) url.path = clip(path);
  if (query !== undefined) url.query = clip(redactQuery(query, isSecret));
  if (domain !== undefined) url.domain = domain;
  if (scheme !== undefined) url.scheme = scheme;
  return { url };
}

/** Who called, as the server span saw it; past proxies that `origin` trusts. */
export function clientSections(span: Span, origin?: OriginRules): Pick<AccessSections, 'source' | 'user_agent'> {
  const original = textOf(span.attributes, NAMES.userAgent);
  return sourceSections(clientOf(span.attributes, origin), original === undefined ? undefined : { original });
}

export function sourceSections(
  source: AccessSections['source'],
  agent: AccessSections['user_agent'],
): Pick<AccessSections, 'source' | 'user_agent'> {
  const sections: Pick<AccessSections, 'source' | 'user_agent'> = {};
  if (source) sections.source = source;
  if (agent) sections.user_agent = agent;
  return sections;
}

function resultOfHttp(span: Span, status: number | undefined, service: string | undefined): Result {
  const error = errorOf(span);
  const bad = status === undefined ? span.statusCode === STATUS_CODE.error : status >= 400;
  if (!bad && span.statusCode !== STATUS_CODE.error) {
    // Without a status the answer was never seen: the client may have gone away.
    return status === undefined ? { ...SUCCEEDED, outcome: 'unknown' } : SUCCEEDED;
  }
  const said =
    service === undefined
      ? `${status ?? ''}`
      : joined(status === undefined ? undefined : `${status}`, `from ${service}`);
  const detail = headline(error?.message);
  const reason = status === undefined ? (detail ?? error?.type) : detail ? `${said}: ${detail}` : said;
  return failed(status === 401 || status === 403 ? 'deny' : 'none', reason, error);
}
