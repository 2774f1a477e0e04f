import type { FrameNote, SessionOwner, Signal, TokenVerdict } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import { tokenKey } from '../core/token-key.ts';
import { type Mask, maskSecrets } from '../otlp/mask.ts';
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
 * `note` is what else is known of the request.
 */
export type Inspect = (signal: Signal, payload: Buffer, note: FrameNote) => Inspection | Promise<Inspection>;

/** Masks only. */
export function createInspect(mask: Mask): Inspect {
  return (signal, payload) => ({ masked: maskSecrets(payload, signal, mask), note: {} });
}

export interface CredentialSources {
  readonly mask: Mask;
  readonly counters: Counters;
  readonly hash: HashSession;
  readonly check: CheckToken;
  readonly owners: SessionOwners;
}

/** What a request says of owners goes into each of its frames: beyond this the rest of its sessions are nobody's. */
const OWNERS_CHARS_MAX = 1_048_576;

/**
 * Masks, checks tokens and looks sessions up. Senders that are not trusted name nobody, so nothing is looked up for them. A
 * request without tokens and sessions costs nothing more than being masked.
 */
export function createCredentialInspect(sources: CredentialSources): Inspect {
  return (signal, payload, note) => {
    const found = new RequestCredentials(sources.counters, sources.hash);
    const masked = maskSecrets(payload, signal, sources.mask, found);
    if (!note.trusted || (found.tokens.size === 0 && found.sessions.size === 0)) return { masked, note: {} };
    const sessions = found.sessions.size > 0 ? ownersIn(found, sources, note) : undefined;
    if (found.tokens.size === 0) return { masked, note: compact(undefined, sessions) };
    return verdictsOn(found, sources, note).then((tokens) => ({ masked, note: compact(tokens, sessions) }));
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
 * The verdicts that are worth telling: those other than `unchecked`. Of one header and claims with several signatures the
 * worst counts, so that a forged one gains nothing from standing beside the right one.
 */
async function verdictsOn(
  found: RequestCredentials,
  { check, counters }: CredentialSources,
  note: FrameNote,
): Promise<Record<string, TokenVerdict> | undefined> {
  const nowMs = Number(note.receivedNs / 1_000_000n);
  const entries = await Promise.all(
    [...found.tokens].map(async ([token, use]) => [tokenKey(token), await check(token, use, nowMs)] as const),
  );
  const result: Record<string, TokenVerdict> = {};
  for (const [key, verdict] of entries) {
    counters.add('tokens', 1, { verdict });
    if (key === undefined || verdict === 'unchecked') continue;
    const before = result[key];
    if (before === undefined || before === 'verified') result[key] = verdict;
  }
  return Object.keys(result).length > 0 ? result : undefined;
}

function compact(
  tokens: Record<string, TokenVerdict> | undefined,
  sessions: Record<string, SessionOwner> | undefined,
): Inspection['note'] {
  return { ...(tokens && { tokens }), ...(sessions && { sessions }) };
}
