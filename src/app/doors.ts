import { openAuthenticator } from '../auth/authenticator.ts';
import type { Authenticator } from '../auth/principal.ts';
import { openTls, type Tls, type TlsSettings } from '../auth/tls.ts';
import { readTokens } from '../config/auth.ts';
import type { Settings } from '../config/schema.ts';
import { type Clock, systemScheduler } from '../core/clock.ts';
import type { Counters } from '../core/metrics.ts';
import { checkExposure } from './exposure.ts';

/** What stands at the three listeners: who may come in, and TLS where there is any. */
export interface Doors {
  readonly authenticator: Authenticator;
  readonly tls: { readonly grpc: Tls | undefined; readonly http: Tls | undefined; readonly api: Tls | undefined };
  close(): void;
}

export interface DoorsOptions {
  readonly settings: Pick<Settings, 'auth' | 'receive' | 'api' | 'insecure'>;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: { info(details: object, message: string): void; warn(details: object, message: string): void };
}

/** Throws AppError with lines for the person who starts it: what is open that should not be, or which file cannot be used. */
export async function openDoors({ settings, clock, counters, log }: DoorsOptions): Promise<Doors> {
  for (const warning of checkExposure(settings)) log.warn({}, warning);
  const shared = { clock, scheduler: systemScheduler, counters, log };
  const opened: { close(): void }[] = [];
  const close = (): void => {
    for (const each of opened) each.close();
  };
  const open = async (setting: string, files: TlsSettings | undefined): Promise<Tls | undefined> => {
    const tls = files && (await openTls(files, { ...shared, setting }));
    if (tls) opened.push(tls);
    return tls;
  };
  try {
    const authenticator = await openAuthenticator({ ...shared, settings: settings.auth, readTokens });
    opened.push(authenticator);
    const { receive, api } = settings;
    return {
      authenticator,
      tls: {
        grpc: await open('receive.grpc.tls', receive.grpc.tls),
        http: await open('receive.http.tls', receive.http.tls),
        api: await open('api.tls', api.tls),
      },
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}
