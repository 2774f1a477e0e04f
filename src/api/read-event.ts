import { hash } from 'node:crypto';
import type { Principal } from '../auth/principal.ts';
import type { ReadName } from './route.ts';

/** One question to the API, as it is kept: who asked for what, and what came of it. */
export interface ReadEvent {
  readonly principal: Pick<Principal, 'name' | 'via'>;
  readonly action: string;
  readonly target: { readonly type: string; readonly id: string; readonly name: string };
  /**
   * `whole`: the one record of it. What takes its time (exports, following) or changes something is two: `start` before anything
   * happens, and `end` with what came of it.
   */
  readonly phase: 'whole' | 'start' | 'end';
  readonly outcome: 'success' | 'failure' | 'unknown';
  readonly decision: 'allow' | 'deny';
  readonly reason?: string | undefined;
  readonly request: {
    readonly method: string;
    /** As in the contract. */
    readonly route: string;
    readonly path: string;
    /** What stands behind the `?`. */
    readonly query: string;
    readonly status?: number | undefined;
    readonly ip: string;
    readonly userAgent: string | undefined;
  };
  /** Records that the answer held. */
  readonly rows?: number | undefined;
  readonly startMs: number;
}

/**
 * Longest text of what was asked. A record keeps 4,096 characters of a field: what is longer is cut here, with a digest of the whole, so
 * that nobody hides a question behind much white space.
 */
const ASKED_CHARS_MAX = 3000;

export function cutAsked(text: string): string {
  if (text.length <= ASKED_CHARS_MAX) return text;
  const digest = hash('sha256', text, 'hex');
  return `${text.slice(0, ASKED_CHARS_MAX).toWellFormed()}… (${text.length} characters, SHA-256 ${digest})`;
}

/** What is told of a question's parameters beside the query itself, in this order. */
const TOLD = ['from', 'to', 'namespace', 'service', 'fields', 'bucket', 'format', 'state', 'stage', 'ids'];

/** In the order of their names in the address; of one that is there more than once, all. */
export type AskedParameters = Readonly<Record<string, unknown>>;

/** The target of a question: what the path names, else the query. */
export function targetOf(
  { target: type }: ReadName,
  inPath: AskedParameters,
  parameters: AskedParameters,
  phase: ReadEvent['phase'],
): ReadEvent['target'] {
  const told = TOLD.flatMap((name) => (parameters[name] === undefined ? [] : `${name} ${textOf(parameters[name])}`));
  if (parameters['inner'] === 'true') told.push('inner ones too');
  if (parameters['restore'] === 'true') told.push('to be restored');
  if (parameters['cursor'] !== undefined) told.push('a further page');
  const [first] = told;
  if (phase === 'start') told.push('begun');
  const [named] = Object.values(inPath);
  const query = textOf(parameters['q'] ?? '')
    .replace(/\s+/g, ' ')
    .trim();
  const id = named === undefined ? (query === '' ? (first ?? '*') : query) : textOf(named);
  const what = type.replaceAll('_', ' ');
  const which = named === undefined ? (query === '' ? what : `${what} where ${query}`) : `${what} ${textOf(named)}`;
  return { type, id: cutAsked(id), name: cutAsked([which, ...told].join(', ')) };
}

function textOf(value: unknown): string {
  return Array.isArray(value) ? value.join(', ') : String(value);
}
