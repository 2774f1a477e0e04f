import { randomBytes } from 'node:crypto';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Settings } from '../config/schema.ts';
import { type Clock, systemScheduler } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import type { SessionOwner } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import type { Attribution, AuditRecord } from '../core/record.ts';
import { SESSION_CHARS_MIN } from '../core/session-id.ts';
import { compileMask } from '../otlp/mask.ts';
import { createCredentialInspect, type Inspect } from '../receive/inspect.ts';
import { createSessionHash } from '../receive/session-hash.ts';
import { SessionOwners } from '../receive/session-owners.ts';
import { errnoOf, nodeDisk } from '../wal/disk.ts';
import { SessionLog } from './session-log.ts';
import type { StageLog } from './stages.ts';

/** What credentials tell at admission, and what records tell of whose session which is. */
export interface CredentialHouse {
  readonly inspect: Inspect;
  readonly learn: (records: readonly AuditRecord[]) => void;
  close(): Promise<void>;
}

export interface CredentialOptions {
  readonly settings: Settings;
  /** The data folder. */
  readonly folder: string;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: StageLog;
}

const KEY_BYTES = 32;

/** Throws AppError('config') that names the setting: keys that cannot be read or used. */
export async function openCredentials(options: CredentialOptions): Promise<CredentialHouse> {
  const { settings, folder, clock, counters, log } = options;
  const { sessions } = settings.identity;
  const key = await readSessionKey(folder, sessions.keyFile);
  const owners = new SessionOwners(sessions);
  const { issuers, check } = await openTokens(options);
  const sessionLog = await SessionLog.open({ folder, disk: nodeDisk, key, owners, clock, log });
  counters.set('sessions_known', owners.size);
  const inspect = createCredentialInspect({
    mask: compileMask({
      attributes: settings.receive.maskAttributes,
      queryParameters: settings.receive.maskQueryParameters,
      sessions,
    }),
    hash: createSessionHash(key),
    ...{ check, counters, owners },
  });
  return {
    inspect,
    learn: (records) => {
      if (sessions.keepMs === 0) return;
      for (const record of records) learnFrom(record, owners, sessionLog, clock.nowMs());
      counters.set('sessions_known', owners.size);
    },
    close: async () => {
      for (const { keys } of issuers) keys.close();
      await sessionLog.close();
    },
  };
}

/** Who signs tokens, and the check of one. What it takes is loaded only where issuers are named. */
async function openTokens({ settings, clock, counters, log }: CredentialOptions) {
  const { tokens } = settings.identity;
  if (tokens.issuers.length === 0) return { issuers: [], check: undefined };
  const [{ openIssuers }, { createTokenCheck }] = await Promise.all([
    import('./issuers.ts'),
    import('../receive/tokens.ts'),
  ]);
  const issuers = await openIssuers({ ...tokens, clock, scheduler: systemScheduler, counters, log });
  return { issuers, check: createTokenCheck(issuers, tokens.leewayMs) };
}

/** How a record may know its actor for the session to be his. What a session itself told teaches nothing. */
const TEACHES: ReadonlySet<Attribution> = new Set(['explicit', 'span', 'header', 'ancestor', 'log']);

function learnFrom(record: AuditRecord, owners: SessionOwners, sessionLog: SessionLog, nowMs: number): void {
  const id = record.session?.id;
  const { event, user, audit } = record;
  if (id === undefined || id.length < SESSION_CHARS_MIN || audit.superseded_by !== undefined) return;
  const atMs = Math.min(Date.parse(event.start), nowMs);
  const { namespace } = record.data_stream;
  const isLogout = event.category.includes('authentication') && event.type.includes('end');
  let news: ReturnType<SessionOwners['learn']>;
  if (isLogout) news = event.outcome === 'success' ? owners.end(namespace, id, Date.parse(event.end)) : undefined;
  else if (user?.id !== undefined && audit.actor.type === 'user' && TEACHES.has(audit.actor.attribution)) {
    news = owners.learn(namespace, id, ownerFrom({ ...user, id: user.id }), atMs);
  }
  if (news !== undefined) sessionLog.append(news);
}

/** Owners stand in each frame of a request that names their session, so they are kept short. */
const NAME_CHARS_MAX = 256;
const ROLES_MAX = 16;

function ownerFrom({ id, name, email, roles }: NonNullable<AuditRecord['user']> & { id: string }): SessionOwner {
  const clip = (text: string) => text.slice(0, NAME_CHARS_MAX);
  return {
    id: clip(id),
    ...(name !== undefined && { name: clip(name) }),
    ...(email !== undefined && { email: clip(email) }),
    ...(roles !== undefined && { roles: roles.slice(0, ROLES_MAX).map(clip) }),
  };
}

/** From the settings' file, or the data folder's, which is made for this user only when there is none. */
async function readSessionKey(folder: string, keyFile: string | undefined): Promise<Buffer> {
  const path = keyFile ?? join(folder, 'session-key');
  const code = keyFile === undefined ? 'storage' : 'config';
  const what = keyFile === undefined ? `the file ${path}` : `identity.sessions.keyFile: ${path}`;
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if (keyFile === undefined && errnoOf(cause) === 'ENOENT') return makeSessionKey(path);
    throw new AppError(code, `${what} cannot be read: ${describeError(cause)}`, { cause });
  }
  const key = Buffer.from(text.trim(), 'base64');
  if (key.length >= KEY_BYTES) return key;
  const advice =
    keyFile === undefined
      ? 'restore it from a backup, or remove it: then sessions get other hashes, and their owners have to be seen again'
      : 'make one with: openssl rand -base64 32';
  throw new AppError(code, `${what} must hold at least ${KEY_BYTES} bytes in base64; ${advice}`);
}

async function makeSessionKey(path: string): Promise<Buffer> {
  const key = randomBytes(KEY_BYTES);
  const temporary = `${path}.new`;
  try {
    // Left behind by a crash or a full disk: a key of which a part was written must not be taken for one.
    await rm(temporary, { force: true });
    await writeFile(temporary, `${key.toString('base64')}\n`, { mode: 0o600, flag: 'wx', flush: true });
    await rename(temporary, path);
    await nodeDisk.syncFolder(join(path, '..'));
  } catch (cause) {
    const words = `the file ${path} cannot be made: ${describeError(cause)}`;
    throw new AppError('storage', `${words}; it holds the key of the hashes that take the place of session ids`, {
      cause,
    });
  }
  return key;
}
