import type { Clock } from '../core/clock.ts';
import { msToNs } from '../core/clock.ts';
import type { FrameNote, Signal } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import { KnownParts } from '../otlp/known-parts.ts';
import { scanLogs, scanMetrics } from '../otlp/scan.ts';
import { SpanWalk } from '../otlp/span-walk.ts';
import type { Frame } from '../wal/frame.ts';
import type { Limit } from './fair-share.ts';
import type { Inspect } from './inspect.ts';
import { type Pass, QUOTA_MESSAGE } from './senders.ts';

/** Names the sender's namespace (tenant, environment); without it the default namespace is meant. */
export const NAMESPACE_HEADER = 'x-spantrail-namespace';

/** Each namespace costs indices and index entries of its own, so a sender must not be able to make up more and more. */
const NAMESPACES_MAX = 1000;

const NAMESPACE = /^[a-z0-9][a-z0-9_-]{0,62}$/;

/** What a client is told to wait when an append failed or too much is in flight: long enough for a disk or a peak to pass. */
export const RETRY_AFTER_MS = 1000;

/** What a client is told when too much is in flight: over all, or of its own. */
export const LIMIT_MESSAGES: Readonly<Record<Limit, string>> = {
  full: 'too much is being received at once; nothing was kept, send it again later',
  share: 'this sender has its share of what can be received at once in work; nothing was kept, send it again later',
};

export const BUDGET_MESSAGE =
  'there is no room for more evidence until some is stored or the disk has space; nothing was kept, send it again later';

/** What a client is told when a fault of ours kept its request from being handled. */
export const FAULT_MESSAGE = 'the request could not be handled; send it again later';

/** Is there room for more evidence that is not settled and stored yet? */
export type Budget = () => { readonly refuse: boolean; readonly retryAfterMs: number };

export interface AdmissionOptions {
  /** Resolves when the frame is durable. `isDirect`: events of the access API or a webhook, which no Collector routed here. */
  readonly wal: { append(frame: Frame, isDirect?: boolean): Promise<unknown> };
  readonly counters: Counters;
  readonly inspect: Inspect;
  /** What requests before said, if that is of use to others, too; of what `inspect` found to be clean. */
  readonly known?: KnownParts | undefined;
  /** Gives log records the trace that their text names. */
  readonly tie: (payload: Buffer, note: FrameNote) => Buffer;
  /** Told of each request of metrics that is accepted: none of them is made durable. */
  readonly observeMetrics?: (payload: Buffer, note: FrameNote) => void;
  /** The namespace of senders that name none. */
  readonly namespace: string;
  readonly budget: Budget;
  /** May this peer state actors and outcomes, and is its word for an identity proof? */
  readonly trust: (peer: string, browser: boolean) => { readonly trusted: boolean; readonly vouches: boolean };
  readonly clock: Clock;
  /** Told when an append fails: the sender only hears "unavailable", the operator must hear why. */
  readonly onAppendFailure: (cause: unknown) => void;
}

export interface RequestSource {
  readonly transport: 'grpc' | 'http';
  /** What the sender is called in place of its transport, so that the same event is the same evidence by either of them. */
  readonly sender?: 'access_api' | 'webhook';
  /** It proved who it is (a webhook's signature): trusted wherever it comes from. */
  readonly isProven?: boolean;
  /** Who it proved to be by a token or certificate; undefined when nobody is asked. */
  readonly pass?: Pass | undefined;
  /** IP address. */
  readonly peer: string;
  /** As the sender gave it, not checked yet. */
  readonly namespace?: string | undefined;
  /** Sent by a page in a browser: anyone on the internet, in effect. */
  readonly browser: boolean;
}

/**
 * - `accepted`: durable (or nothing in it needed to be); `rejected` of the `items` were refused for `reason`
 * - `invalid`: never acceptable, do not retry; `field` is the part of the request that `message` complains about
 * - `unavailable`: not acknowledged; send the same request again after `retryAfterMs`
 * - `over_quota`: the same, because of what this sender sent before
 */
export type AdmitResult =
  | {
      readonly kind: 'accepted';
      readonly items: number;
      readonly rejected: number;
      readonly reason: string;
      /** May this sender state actors, outcomes and decisions, or only context? */
      readonly trusted: boolean;
    }
  | { readonly kind: 'invalid'; readonly field: string; readonly message: string; readonly offset: number }
  | { readonly kind: 'unavailable' | 'over_quota'; readonly message: string; readonly retryAfterMs: number };

/** Admits one request. The payload belongs to admission from here on: secrets in it are overwritten. Never rejects. */
export type Admit = (signal: Signal, payload: Buffer, source: RequestSource) => Promise<AdmitResult>;

/**
 * The one way in, whatever the transport: check → tie → inspect → append → accept. The order matters: nothing of a refused
 * request is kept, secrets are overwritten before any byte reaches the disk, and `accepted` comes only after the append is
 * durable.
 */
export function createAdmission(options: AdmissionOptions): Admit {
  const { counters } = options;
  const namespaces = new Set<string>([options.namespace]);
  const walk = new SpanWalk(options.known ?? new KnownParts());
  return async (signal, payload, source) => {
    const budget = options.budget();
    if (budget.refuse) {
      return { kind: 'unavailable', message: BUDGET_MESSAGE, retryAfterMs: budget.retryAfterMs };
    }
    const namespace = source.namespace ?? options.namespace;
    if (!NAMESPACE.test(namespace)) {
      const message = `header ${NAMESPACE_HEADER} must be 1 to 63 of a-z, 0-9, "-" and "_", starting with a letter or digit`;
      return { kind: 'invalid', field: NAMESPACE_HEADER, message, offset: 0 };
    }
    if (namespaces.size >= NAMESPACES_MAX && !namespaces.has(namespace)) {
      const message = `there are ${NAMESPACES_MAX} namespaces already; use one of them in ${NAMESPACE_HEADER}`;
      return { kind: 'invalid', field: NAMESPACE_HEADER, message, offset: 0 };
    }
    const walked = signal === 'traces' ? walk.walk(payload) : undefined;
    const scanned = walked?.result ?? (signal === 'logs' ? scanLogs(payload) : scanMetrics(payload));
    const waitMs = source.pass?.charge(scanned.ok ? scanned.items : 0, payload.length);
    if (waitMs !== undefined) return { kind: 'over_quota', message: QUOTA_MESSAGE, retryAfterMs: waitMs };
    if (!scanned.ok) return { kind: 'invalid', field: 'body', message: scanned.message, offset: scanned.offset };
    namespaces.add(namespace);
    const accepted = scanned.items - scanned.rejected;
    const note = annotate(options, namespace, source);
    // No record rests on a metric, so none needs to be durable.
    if (accepted > 0 && signal === 'metrics') {
      options.observeMetrics?.(payload, note);
    } else if (accepted > 0) {
      const tied = signal === 'logs' ? options.tie(payload, note) : payload;
      const inspection = options.inspect(signal, tied, note, walked?.rows);
      const { masked, note: found } = inspection instanceof Promise ? await inspection : inspection;
      counters.add('masked', masked);
      const spans = walked && walk.keep(payload, walked, masked > 0);
      const told = found.tokens || found.sessions ? { ...note, ...found } : note;
      const own = { signal, note: told, payload: tied, items: accepted };
      const frame = spans === undefined ? own : { ...own, spans };
      try {
        await options.wal.append(frame, source.sender !== undefined);
      } catch (cause) {
        options.onAppendFailure(cause);
        const message = 'the request could not be made durable; send it again later';
        return { kind: 'unavailable', message, retryAfterMs: RETRY_AFTER_MS };
      }
    }
    // Spans and log records are counted where their frame becomes durable.
    if (signal === 'metrics') counters.add('accepted', accepted, { signal });
    if (scanned.rejected > 0) counters.add('rejected', scanned.rejected, { signal, reason: 'invalid_id' });
    const { trusted } = note;
    return { kind: 'accepted', items: scanned.items, rejected: scanned.rejected, reason: scanned.reason, trusted };
  };
}

function annotate(options: AdmissionOptions, namespace: string, source: RequestSource): FrameNote {
  const { peer, browser, isProven = false, pass } = source;
  const peerIs = options.trust(peer, browser);
  // A token that is used from elsewhere than it should be is no more than what comes from there.
  const trusted = isProven || (peerIs.trusted && pass?.trusted !== false);
  const vouches = pass?.trusted !== false && (peerIs.vouches || (trusted && pass?.vouches === true && !browser));
  const receivedNs = msToNs(options.clock.nowMs());
  return { receivedNs, namespace, sender: nameOf(source, trusted), trusted, vouches, peer };
}

/** The ids of events count within their sender: by a name of their own, those without trust take no trusted event's place. */
function nameOf({ transport, sender, browser, pass }: RequestSource, trusted: boolean): string {
  const doubt = trusted ? undefined : browser ? 'browser' : 'untrusted';
  if (!pass) return doubt ?? sender ?? transport;
  // One sender, whichever way it comes; only what others call us with stays apart (`mayHaveMoved` in join/batch.ts).
  const kind = doubt ?? (sender === 'webhook' ? sender : undefined);
  return kind === undefined ? pass.name : `${kind}:${pass.name}`;
}
