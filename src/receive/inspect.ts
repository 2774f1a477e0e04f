import type { FrameNote, SessionOwner, Signal, TokenVerdict } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import type { SpanRows } from '../core/span-rows.ts';
import { tokenKey } from '../core/token-key.ts';
import { FINDS_NOTHING } from '../otlp/credential-finder.ts';
import { maskSecrets } from '../otlp/mask.ts';
import type { Mask } from '../otlp/mask-names.ts';
import { RequestCredentials } from './credentials.ts';
import type { HashSession } from './session-hash.ts';
import type { SessionOwners } from './session-owners.ts';
import type { CheckToken } from './tokens.ts';

/** What a request is found to hold before it is made durable. */
export interface Inspection {
  /** Secrets overwritten in the payload, in place. */
  readonly masked: number;
  readonly note: Pick<FrameNote, 'tokens' | 'sessions'>;
}

/**
 * Overwrites secrets in the payload and finds out what only they can tell. Never throws, never waits for the network.
 * `note` is what else is known of the request, `rows` what a walk found in one of spans.
 */
export type Inspect = (
  signal: Signal,
  payload: Buffer,
  note: FrameNote,
  rows?: SpanRows,
) => Inspection | Promise<Inspection>;

/** Masks only. */
export function createInspect(mask: Mask): Inspect {
  return (signal, payload, _note, rows) => ({
    masked: maskSecrets(payload, signal, mask, FINDS_NOTHING, rows),
    note: {},
  });
}

export interface CredentialSources {
  readonly mask: Mask;
  readonly counters: Counters;
  readonly hash: HashSession;
  /** Undefined where nobody has named an issuer. */
  readonly check: CheckToken | undefined;
  readonly owners: SessionOwners;
}

/** What a request says of owners goes into each of its frames: beyond this the rest of its sessions are nobody's. */
const OWNERS_CHARS_MAX = 1_048_576;

/**
 * Masks, checks tokens and looks sessions up. Senders that are not trusted name nobody, so nothing is looked up for them. A
 * request without tokens and sessions costs nothing more than being masked.
 */
export function createCredentialInspect(sources: CredentialSources): Inspect {
  const { counters, hash, mask, check } = sources;
  return (signal, payload, note, rows) => {
    if (rows?.isClean) return { masked: 0, note: check === undefined || !note.trusted ? {} : { tokens: {} } };
    const found = new RequestCredentials(counters, hash);
    const masked = maskSecrets(payload, signal, mask, found, rows);
    if (!note.trusted) return { masked, note: {} };
    const sessions = found.sessions.size > 0 ? ownersIn(found, sources, note) : undefined;
    const told = sessions && { sessions };
    if (check !== undefined && found.tokens.size > 0) {
      return verdictsOn(found, check, counters, note).then((tokens) => ({ masked, note: { tokens, ...told } }));
    }
    if (found.tokens.size > 0) counters.add('tokens', found.tokens.size, { verdict: 'unchecked' });
    // Also without any: what is no token here must not be taken for one later.
    return { masked, note: check === undefined ? (told ?? {}) : { tokens: {}, ...told } };
  };
}

function ownersIn(
  found: RequestCredentials,
  { owners, counters }: CredentialSources,
  note: FrameNote,
): Record<string, SessionOwner> | undefined {
  const nowMs = Number(note.receivedNs / 1_000_000n);
  const result: Record<string, SessionOwner> = {};
  let chars = 0;
  let known = 0;
  for (const [id, use] of found.sessions) {
    const owner = owners.ownerOf(note.namespace, id, use, nowMs);
    if (typeof owner === 'object') chars += JSON.stringify(owner).length + id.length;
    const isTold = typeof owner === 'object' && chars <= OWNERS_CHARS_MAX;
    if (isTold) {
      result[id] = owner;
      known += 1;
    }
    const state = typeof owner === 'object' ? (isTold ? 'known' : 'too_many') : (owner ?? 'unknown');
    counters.add('sessions', 1, { owner: state });
  }
  return known > 0 ? result : undefined;
}

/**
 * Of one header and claims with several signatures the worst verdict counts, so that a forged one gains nothing from standing
 * beside the right one.
 */
async function verdictsOn(
  found: RequestCredentials,
  check: CheckToken,
  counters: Counters,
  note: FrameNote,
): Promise<Record<string, TokenVerdict>> {
  const nowMs = Number(note.receivedNs / 1_000_000n);
  const entries = await Promise.all(
    [...found.tokens].map(async ([token, use]) => [tokenKey(token), await check(token, use, nowMs)] as const),
  );
  const result: Record<string, TokenVerdict> = {};
  for (const [key, verdict] of entries) {
    counters.add('tokens', 1, { verdict });
    if (key === undefined) continue;
    const before = result[key];
    if (before === undefined || before === 'verified' || verdict === 'bad_signature') result[key] = verdict;
  }
  return result;
}
