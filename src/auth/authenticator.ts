import { createHmac, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Clock, Scheduler } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import type { ClientCertificate } from './client-certificate.ts';
import type { Authenticator, Permission, Principal, RefusedReason, Sending, Verdict } from './principal.ts';
import { bearerToken, hashToken } from './token.ts';
import { watchFiles } from './watched-files.ts';

/** As in the settings. */
export interface Rights extends Sending {
  readonly name: string;
  readonly can: readonly Permission[];
  /** Epoch milliseconds. */
  readonly expiresAt?: number | undefined;
  readonly revoked: boolean;
}

export interface TokenSettings extends Rights {
  readonly hash: string;
}

/** All of fingerprint, subject and san that are there must fit. */
export interface CertificateSettings extends Rights {
  readonly fingerprint?: string | undefined;
  readonly subject?: Readonly<Record<string, string>> | undefined;
  readonly san?: string | undefined;
}

export interface AuthSettings {
  readonly tokens: readonly TokenSettings[];
  readonly tokensFile?: string | undefined;
  readonly certificates: readonly CertificateSettings[];
}

export interface AuthenticatorOptions {
  readonly settings: AuthSettings;
  /** The tokens in the text of `tokensFile`; throws an error that says what is wrong with it. */
  readonly readTokens: (text: string) => readonly TokenSettings[];
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly counters: Counters;
  readonly log: { info(details: object, message: string): void; warn(details: object, message: string): void };
}

/** Who has a token or certificate, and whether it still counts. */
interface Holder {
  readonly principal: Principal;
  readonly isRevoked: boolean;
}

const MESSAGES: Readonly<Record<RefusedReason, string>> = {
  missing:
    'this Spantrail asks who you are: send `authorization: Bearer` and a token that "spantrail token create" made, or a client certificate',
  malformed: 'authorization must be `Bearer` and a token of Spantrail: spantrail_ and 43 characters',
  unknown: 'this token is not among those that this Spantrail knows',
  expired: 'this token has expired; ask for another',
  revoked: 'this token was revoked; ask for another',
};

/**
 * Who may come in. Nothing but hashes of tokens is known here. Throws AppError('config') with one line when the file of tokens cannot
 * be used at the start; one that is put in its place later and cannot be used leaves the tokens that were read before.
 */
export async function openAuthenticator(options: AuthenticatorOptions): Promise<Authenticator> {
  const { settings, readTokens, clock, counters, log } = options;
  const { tokensFile } = settings;
  const tokenHolders = new TokenHolders();
  const certificates = settings.certificates.map((entry) => ({ entry, holder: holderOf(entry, 'certificate') }));
  const read = async (): Promise<void> => {
    if (tokensFile === undefined) return tokenHolders.replace(settings.tokens);
    tokenHolders.replace([...settings.tokens, ...readTokens(await readFile(tokensFile, 'utf8'))]);
  };
  try {
    await read();
  } catch (cause) {
    throw new AppError('config', `auth.tokensFile: ${tokensFile}: ${describeError(cause)}`, { cause });
  }
  const file = 'auth.tokensFile';
  if (tokensFile !== undefined) counters.set('reload_failing', 0, { file });
  const watched = await watchFiles({
    paths: tokensFile === undefined ? [] : [tokensFile],
    scheduler: options.scheduler,
    async read() {
      await read();
      counters.set('reload_failing', 0, { file });
      log.info({ file: tokensFile, tokens: tokenHolders.size }, 'tokens were read again');
    },
    failed(cause) {
      counters.set('reload_failing', 1, { file });
      log.warn(
        { file: tokensFile, reason: describeError(cause) },
        'the new file of tokens cannot be used; those read before count on',
      );
    },
  });
  const refuse = (reason: RefusedReason, message: string, principal?: Principal): Verdict => {
    counters.add('unauthenticated', 1, { reason });
    return { kind: 'refused', reason, message, ...(principal && { principal }) };
  };
  const judge = ({ principal, isRevoked }: Holder, what: string, endsAtMs = Number.POSITIVE_INFINITY): Verdict => {
    if (isRevoked) return refuse('revoked', `this ${what} was revoked; ask for another`, principal);
    if (Math.min(principal.expiresAtMs ?? endsAtMs, endsAtMs) > clock.nowMs()) return { kind: 'known', principal };
    return refuse('expired', `this ${what} has expired; ask for another`, principal);
  };
  return {
    isOn: settings.tokens.length > 0 || tokensFile !== undefined || settings.certificates.length > 0,
    identify({ authorization, certificate }) {
      if (authorization !== undefined && authorization !== '') {
        const token = bearerToken(authorization);
        if (token === undefined) return refuse('malformed', MESSAGES.malformed);
        const holder = tokenHolders.find(token);
        return holder ? judge(holder, 'token') : refuse('unknown', MESSAGES.unknown);
      }
      if (certificate === undefined) return refuse('missing', MESSAGES.missing);
      const found = certificates.find(({ entry }) => fits(entry, certificate));
      if (found) return judge(found.holder, 'certificate', certificate.endsAtMs);
      const subject = Object.entries(certificate.subject).map(([name, values]) => `${name}=${values.join('+')}`);
      return refuse(
        'unknown',
        `no entry of auth.certificates fits this client certificate (${subject.join(', ').slice(0, 200)})`,
      );
    },
    reload: watched.look,
    close: watched.close,
  };
}

function holderOf(rights: Rights, via: Principal['via']): Holder {
  const { name, can, expiresAt, revoked, signals, presets, namespaces, trusted, vouches, quota } = rights;
  // Whoever is let in by presets is meant to send those, not all else as well.
  const limited = signals ?? (presets === undefined ? undefined : (['events'] as const));
  const sending = can.includes('send') ? { signals: limited, presets, namespaces, trusted, vouches, quota } : undefined;
  return { principal: { name, via, can: new Set(can), expiresAtMs: expiresAt, sending }, isRevoked: revoked };
}

/**
 * Holders by a keyed digest of their token's hash. Looking up takes a time that depends on the digest, which nobody outside can know or
 * choose: so it tells nothing of the hashes that are kept.
 */
class TokenHolders {
  readonly #key = randomBytes(32);
  #holders = new Map<string, Holder>();

  get size(): number {
    return this.#holders.size;
  }

  replace(tokens: readonly TokenSettings[]): void {
    this.#holders = new Map(tokens.map((token) => [this.#digest(token.hash), holderOf(token, 'token')]));
  }

  find(token: string): Holder | undefined {
    return this.#holders.get(this.#digest(hashToken(token)));
  }

  #digest(hash: string): string {
    return createHmac('sha256', this.#key).update(hash).digest('base64');
  }
}

function fits({ fingerprint, subject, san }: CertificateSettings, certificate: ClientCertificate): boolean {
  if (fingerprint !== undefined && fingerprint !== certificate.fingerprint) return false;
  const wanted = Object.entries(subject ?? {});
  if (!wanted.every(([name, value]) => certificate.subject[name]?.includes(value))) return false;
  if (san === undefined) return true;
  const pattern = san.split('*').map((literal) => literal.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  const expression = new RegExp(`^${pattern.join('.*')}$`);
  return certificate.alternativeNames.some((name) => expression.test(name));
}
