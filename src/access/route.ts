import { remember } from './attributes.ts';
import { fitsGlob, type Glob } from './glob.ts';

/** One segment of a route: literal text, one or more parameters with what stands around them, or the rest of the path. */
type Segment =
  | { readonly kind: 'literal'; readonly text: string }
  | { readonly kind: 'parameter'; readonly names: readonly string[]; readonly around: Glob; readonly optional: boolean }
  | { readonly kind: 'rest'; readonly names: readonly string[] };

/** `(?P<id>[0-9]+)` of Django's regular expressions. */
const NAMED_GROUP = /\(\?P?<(\w+)>(?:[^()]|\([^()]*\))*\)/g;
/** `(.:format)` of Rails. */
const OPTIONAL_FORMAT = /\(\.:\w+\)/g;
/** `{id}`, `{id:int}`, `{id?}`, `<id>`, `<int:id>`, `[id]`. */
const PARAMETERS = /\{[^{}]+\}|<[^<>]+>|\[[^[\]]+\]/g;
/** `:id`, `:id(\d+)`, `:id?`, `:rest*`, a whole segment only: Google's `{id}:cancel` has no parameter `cancel`. */
const COLON_PARAMETER = /^:(\w+)(?:\([^)]*\))?([?*+])?$/;
/** `*`, `*path`, `{*path}`, `{path...}`, `{path+}`, `{path:path}`, `{path:.*}`, `<path:rest>`, `[...rest]`. */
const REST =
  /^(?:\*+(\w*)|\{\*+(\w*)\}|\{(\w*)\.\.\.\}|\{(\w+)\+\}|\{(\w+):(?:path|\.\*)\}|<path:(\w+)>|\[\.\.\.(\w+)\])$/;
/** `GET /patients/{id}` and `GET example.org/patients/{id}` of Go. */
const METHOD = /^[A-Z]{3,}\s+[^\s/]*(?=\/)/;
/** `/(method:GET)` and `/(authenticate default)` of Ktor. */
const SELECTORS = /\/\((?:\w+:|authenticate\b|RateLimit\b)[^()]*\)/g;
/** Folders that say nothing of what is below them. */
const GENERAL = /^(?:api|rest|v\d[\w.]*)$/i;
const SUBTREE: Segment = { kind: 'rest', names: [] };

/** A route as frameworks mean it: without its method, its host and what else has to hold. */
export const plainRoute = remember((route) => route.replace(METHOD, '').replace(SELECTORS, '') || '/');

/** The route that a server span without one may have as its name; undefined for what begins with no method. */
export function routeInName(name: string): string | undefined {
  return METHOD.test(name) ? plainRoute(name) : undefined;
}

function segmentOf(text: string): Segment {
  const rest = REST.exec(text);
  if (rest) return { kind: 'rest', names: rest.slice(1).filter(Boolean) };
  const [, colonName = '', suffix] = COLON_PARAMETER.exec(text) ?? [];
  if (suffix === '*' || suffix === '+') return { kind: 'rest', names: [colonName] };
  if (colonName !== '') return { kind: 'parameter', names: [colonName], around: ['', ''], optional: suffix === '?' };
  const parameters = text.match(PARAMETERS);
  if (!parameters) return { kind: 'literal', text };
  const names = parameters.map((parameter) => nameOf(parameter));
  return { kind: 'parameter', names, around: text.split(PARAMETERS), optional: text.endsWith('?}') };
}

/** `{id:int=3}`, `{id?}` and `<int:id>` are named `id`. */
function nameOf(parameter: string): string {
  const inner = parameter.slice(1, -1);
  return parameter.startsWith('<') ? inner.replace(/^.*:/, '') : inner.replace(/[:=?].*$/, '');
}

function segmentsOf(path: string): string[] {
  const segments: string[] = [];
  for (const segment of path.split('/')) if (segment !== '') segments.push(segment);
  return segments;
}

/** Services have few routes, which repeat. */
const parseRoute = remember((route): readonly Segment[] => {
  const plain = route
    .replace(NAMED_GROUP, '{$1}')
    .replace(OPTIONAL_FORMAT, '')
    .replace(/^\^|\$$/g, '');
  return segmentsOf(plain).map(segmentOf);
});

function fits(segment: Segment, text: string | undefined): boolean {
  if (text === undefined) return false;
  if (segment.kind === 'literal') return segment.text === text || isSameFolded(segment.text, text);
  return segment.kind === 'rest' || fitsGlob(segment.around, text);
}

function isSameFolded(literal: string, text: string): boolean {
  return literal.length === text.length && literal.toLowerCase() === text.toLowerCase();
}

function isOptional(segment: Segment | undefined): boolean {
  return segment?.kind === 'parameter' && segment.optional;
}

/** Where the path begins to fit the route, or -1. A route may be mounted below a prefix that it does not name. */
function alignment(route: readonly Segment[], path: readonly string[]): number {
  const rest = route.at(-1)?.kind === 'rest';
  const last = path.length - route.length;
  for (let start = rest ? 0 : last; start >= 0 && start <= last; start++) {
    if (route.every((segment, index) => fits(segment, path[start + index]))) return start;
  }
  return -1;
}

/** The route without optional segments at its end that a shorter path left out, and without a prefix that a proxy took off. */
function shortened(route: readonly Segment[], length: number): readonly Segment[] {
  let [from, to] = [0, route.length];
  while (to > length && isOptional(route[to - 1])) to--;
  while (to - from > length && route[from]?.kind === 'literal') from++;
  return to - from === route.length ? route : route.slice(from, to);
}

/**
 * The row that a request was about: `/patients/{id}` and `/patients/7` give `patients/7`. It runs from the literal before
 * the first parameter to the last parameter, so that prefixes (`/api/v1`) and views of the row (`/patients/7/notes`) share
 * it, and a nested row keeps what it is unique in: `/wards/{ward}/patients/{id}` gives `wards/3/patients/7`. A route that ends
 * in `/` holds for what is below it too: `/patients/` and `/patients/7` give `patients/7`. There is none when the route has no parameters, the path does not fit it, or a parameter's name says that it is secret; secret
 * parameters are taken out of the path too.
 */
export function readRoute(
  route: string,
  path: string,
  isSecret: (name: string) => boolean,
): { readonly row?: string; readonly path: string } {
  const segments = segmentsOf(path);
  const { whole, first, start } = fitted(route, segments);
  if (start < 0) return { path };
  const isHidden = (segment: Segment | undefined): boolean =>
    segment !== undefined && segment.kind !== 'literal' && segment.names.some(isSecret);
  if (whole.some(isHidden)) {
    return { path: `/${segments.map((text, index) => (isHidden(whole[index - start]) ? '***' : text)).join('/')}` };
  }
  const last = whole.findLastIndex(
    (segment) => segment.kind !== 'literal' && (segment !== SUBTREE || segment === whole[first]),
  );
  const to = whole[last]?.kind === 'rest' ? segments.length : start + last + 1;
  let from = Math.max(0, start + first - 1);
  if (whole[first]?.kind === 'rest') {
    while (GENERAL.test(segments[from] ?? '')) from++;
    // One name below nothing in particular is a collection or an operation.
    if (to - from < 2) return { path };
  }
  return { row: segments.slice(from, to).join('/'), path };
}

/** The route as it fits the path, its first parameter and where the path begins to fit; `start` is -1 when it does not. */
function fitted(route: string, path: readonly string[]) {
  const parsed = parseRoute(route);
  const whole = shortened(parsed, path.length);
  const first = whole.findIndex(({ kind }) => kind !== 'literal');
  const start = first < 0 ? -1 : alignment(whole, path);
  if (start >= 0 || parsed.length === 0 || !route.endsWith('/')) return { whole, first, start };
  const open = [...parsed, SUBTREE];
  return { whole: open, first: first < 0 ? parsed.length : first, start: alignment(open, path) };
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const LONG_HEX = /^[0-9a-f]{16,}$/i;
/** ULID, nanoid, base64url: long, with digits among letters. */
const LONG_MIXED = /^(?=.*\d)(?=.*[a-z])[\w-]{20,}$/i;

function isId(segment: string): boolean {
  return (
    /^\d+$/.test(segment) ||
    UUID.test(segment) ||
    LONG_HEX.test(segment) ||
    LONG_MIXED.test(segment) ||
    segment.includes('@')
  );
}

/** A file that is named by a number or UUID; other names with an ending are most often hashes of contents. */
const FILE_OF_ID = /^(?:\d+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?=\.[a-z]\w{1,4}$)/i;

/** The path with what looks like an id (numbers, UUIDs, long hex, mail addresses) as `{id}`. */
export function foldPath(path: string): string {
  return path
    .split('/')
    .map((segment) => (isId(segment) ? '{id}' : segment.replace(FILE_OF_ID, '{id}')))
    .join('/');
}

/** The query string with the values of secret parameters as `***`; names and the other values stay. */
export function redactQuery(query: string, isSecret: (name: string) => boolean): string {
  return query
    .replace(/^\?/, '')
    .split('&')
    .map((pair) => {
      const [name = ''] = pair.split('=', 1);
      return pair.includes('=') && isSecret(decoded(name)) ? `${name}=***` : pair;
    })
    .join('&');
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
