import { readFile } from 'node:fs/promises';
import type { Settings } from '../config/schema.ts';
import type { Clock, Scheduler } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import { RefreshedKeys, secretKeys, type TokenKeys } from '../receive/token-keys.ts';
import type { TokenIssuer } from '../receive/tokens.ts';
import { fetchKeys, namedKeys } from './named-keys.ts';
import type { StageLog } from './stages.ts';

type Tokens = Settings['identity']['tokens'];

export interface IssuersOptions extends Pick<Tokens, 'issuers' | 'refreshMs'> {
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly counters: Counters;
  readonly log: StageLog;
}

/** `missing`: there are none yet; `stale`: they could not be read again, the last ones count. */
const KEYS_STATES = ['ready', 'stale', 'missing'] as const;
type KeysState = (typeof KEYS_STATES)[number];

/** The start waits this long for addresses to answer, so that what senders kept for us meanwhile finds the keys. */
const FIRST_WAIT_MS = 2_000;

/**
 * Files are read before this resolves, addresses in the background; their first answer is waited for, but not for long. Throws AppError('config') that names the setting for a
 * file that cannot be read or holds no keys.
 */
export async function openIssuers(options: IssuersOptions): Promise<readonly TokenIssuer[]> {
  const states: KeysState[] = [];
  const firstTold: Promise<void>[] = [];
  const opened: TokenIssuer[] = [];
  try {
    for (const [index, config] of options.issuers.entries()) {
      states[index] = config.secret === undefined ? 'missing' : 'ready';
      const { promise, resolve } = Promise.withResolvers<void>();
      if (config.secret === undefined) firstTold.push(promise);
      const keys = await openKeys(config, `identity.tokens.issuers.${index}`, options, (state) => {
        states[index] = state;
        countStates(options.counters, states);
        resolve();
      });
      opened.push({ issuer: config.issuer, audience: config.audience, signer: config.signer, keys });
    }
  } catch (error) {
    for (const { keys } of opened) keys.close();
    throw error;
  }
  countStates(options.counters, states);
  await inTime(Promise.all(firstTold), options.scheduler);
  return opened;
}

async function inTime(work: Promise<unknown>, scheduler: Scheduler): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const cancel = scheduler.after(FIRST_WAIT_MS, resolve);
  await Promise.race([work, promise]);
  cancel();
}

async function openKeys(
  { keysUrl = '', keysFile, secret }: Tokens['issuers'][number],
  setting: string,
  { refreshMs, clock, scheduler, log }: IssuersOptions,
  tell: (state: KeysState) => void,
): Promise<TokenKeys> {
  if (secret !== undefined) return secretKeys(secret);
  const source = keysFile ?? keysUrl;
  let keys: TokenKeys | undefined;
  let failed: string | undefined;
  const report = (failure: string | undefined): void => {
    tell(failure === undefined ? 'ready' : keys?.key === undefined ? 'missing' : 'stale');
    if (failure !== undefined && failure !== failed) {
      log.warn({ setting, source, failure }, 'keys of tokens cannot be read; they are tried again in the background');
    } else if (failure === undefined && failed !== undefined) {
      log.info({ setting, source }, 'keys of tokens can be read again');
    }
    failed = failure;
  };
  const named = namedKeys(keysUrl);
  const read = () => (keysFile === undefined ? (named?.read() ?? fetchKeys(keysUrl)) : readFile(keysFile, 'utf8'));
  const refreshed = { read, refreshMs, clock, scheduler, report, ...(named && { want: named.want }) };
  try {
    const isThere = keysFile !== undefined || named !== undefined;
    keys = new RefreshedKeys(isThere ? { ...refreshed, first: await read() } : refreshed);
    if (isThere) tell('ready');
  } catch (cause) {
    throw new AppError('config', `${setting}.keysFile: ${keysFile}: ${describeError(cause)}`, { cause });
  }
  return keys;
}

function countStates(counters: Counters, states: readonly KeysState[]): void {
  for (const state of states.length > 0 ? KEYS_STATES : []) {
    counters.set('token_keys', states.filter((one) => one === state).length, { state });
  }
}
