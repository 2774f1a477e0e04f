import { openAuthenticator } from '../../src/auth/authenticator.ts';
import type { Authenticator } from '../../src/auth/principal.ts';
import { openTls, type Tls, type TlsSettings } from '../../src/auth/tls.ts';
import { createToken, hashToken } from '../../src/auth/token.ts';
import { readTokens } from '../../src/config/auth.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { type Clock, systemClock, systemScheduler } from '../../src/core/clock.ts';
import { Counters } from '../../src/core/metrics.ts';

/** What was said in the log. */
export interface Said {
  readonly lines: string[];
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
}

export function listening(): Said {
  const lines: string[] = [];
  const say = (details: object, message: string) => void lines.push(`${message} ${JSON.stringify(details)}`);
  return { lines, info: say, warn: say };
}

/** An entry of the settings, with a token for it. */
export function entryFor(entry: { readonly name: string; readonly can?: readonly string[] } & Record<string, unknown>) {
  const token = createToken();
  return { token, entry: { can: ['send'], ...entry, hash: hashToken(token) } };
}

export async function authenticatorFor(
  auth: Record<string, unknown>,
  more: { clock?: Clock; counters?: Counters; log?: Said } = {},
): Promise<Authenticator> {
  const settings = settingsSchema.parse({ auth }).auth;
  const surroundings = { clock: systemClock, scheduler: systemScheduler, counters: new Counters(), log: listening() };
  return openAuthenticator({ ...surroundings, ...more, settings, readTokens });
}

export function tlsFor(
  files: Partial<TlsSettings> & { certFile: string; keyFile: string },
  more: { counters?: Counters; log?: Said; setting?: string } = {},
): Promise<Tls> {
  const surroundings = { clock: systemClock, scheduler: systemScheduler, counters: new Counters(), log: listening() };
  return openTls({ clientCertificate: 'none', ...files }, { setting: 'receive.grpc.tls', ...surroundings, ...more });
}
