import type { ClientCertificate } from './client-certificate.ts';

/**
 * What one may do: send evidence; read records; see metrics and the pipeline; change something (quarantine, restoring).
 */
export const PERMISSIONS = ['send', 'read', 'monitor', 'operate'] as const;

export type Permission = (typeof PERMISSIONS)[number];

/** What evidence can be: the signals of OTLP, events of the access API, and webhooks. */
export const SENT_SIGNALS = ['traces', 'logs', 'metrics', 'access', 'events'] as const;

export type SentSignal = (typeof SENT_SIGNALS)[number];

export interface Quota {
  /** Spans, log records, data points and events. */
  readonly itemsPerSecond?: number | undefined;
  /** Of evidence as it is kept: inflated, JSON as protobuf. */
  readonly bytesPerSecond?: number | undefined;
}

/** What one who may send may send. Lists that are absent allow all. */
export interface Sending {
  readonly signals?: readonly SentSignal[] | undefined;
  /** Of webhooks. */
  readonly presets?: readonly string[] | undefined;
  /** The first is that of requests which name none. */
  readonly namespaces?: readonly string[] | undefined;
  /** May state actors, outcomes and decisions. */
  readonly trusted: boolean;
  /** Its word for an identity is proof. */
  readonly vouches: boolean;
  readonly quota?: Quota | undefined;
}

/** Who somebody proved to be. */
export interface Principal {
  /** Stands in records; several tokens and certificates of one name are the same sender. */
  readonly name: string;
  readonly via: 'token' | 'certificate';
  readonly can: ReadonlySet<Permission>;
  /** Epoch milliseconds. */
  readonly expiresAtMs?: number | undefined;
  /** There when it can send. */
  readonly sending?: Sending | undefined;
}

/** Why somebody was not let in: the values of the label `reason`. */
export type RefusedReason = 'missing' | 'malformed' | 'unknown' | 'expired' | 'revoked';

export type Verdict =
  | { readonly kind: 'known'; readonly principal: Principal }
  | {
      readonly kind: 'refused';
      readonly reason: RefusedReason;
      /** For who asked: what is wrong, and what would be right. */
      readonly message: string;
      /** Who it was, where that is known: of what expired or was revoked. */
      readonly principal?: Principal;
    };

/** What a request proves itself by. */
export interface Credentials {
  /** The header (gRPC: the metadata) `authorization`. */
  readonly authorization: string | undefined;
  /** As `clientCertificateOf` tells it of the connection. */
  readonly certificate: ClientCertificate | undefined;
}

export interface Authenticator {
  /** False when nobody is named: then nobody is asked. */
  readonly isOn: boolean;
  /** Call it for each request, also on connections that were let in: tokens and certificates end. Counts what it refuses. */
  identify(given: Credentials): Verdict;
  /** Looks at once whether the file of tokens was replaced. */
  reload(): Promise<void>;
  close(): void;
}
