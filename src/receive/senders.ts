import type { Authenticator, Credentials, Principal, Quota, Sending, SentSignal } from '../auth/principal.ts';
import type { Clock } from '../core/clock.ts';
import type { Counters } from '../core/metrics.ts';
import { NAMESPACE_HEADER } from './admission.ts';

/** What is known of a request before its body is read. */
export interface Knock {
  readonly credentials: Credentials;
  readonly signal: SentSignal;
  /** Of a webhook. */
  readonly preset?: string | undefined;
  /** As the sender gave it. */
  readonly namespace: string | undefined;
}

/** Who a request is from, as it proved. */
export interface Pass {
  readonly name: string;
  readonly trusted: boolean;
  readonly vouches: boolean;
  /**
   * Takes what a part of the request has from the sender's quota. The first part may find that others used it up meanwhile: then how
   * long to wait. Further parts are taken in any case, or a request larger than the quota could never be sent.
   */
  charge(items: number, bytes: number): number | undefined;
}

export interface Closed {
  readonly isOpen: false;
  readonly code: 'unauthenticated' | 'forbidden' | 'over_share';
  /** For who sent it: what is wrong, and what would be right. */
  readonly message: string;
  /** Of `over_share`. */
  readonly retryAfterMs?: number;
}

/** `pass` is undefined when nobody is asked. */
export type Entrance =
  | { readonly isOpen: true; readonly pass: Pass | undefined; readonly namespace: string | undefined }
  | Closed;

/** Lets requests in, or says why not. Asked for each, before its body is read. */
export type Gate = (knock: Knock) => Entrance;

export interface GateOptions {
  readonly authenticator: Authenticator;
  readonly counters: Counters;
  readonly clock: Clock;
}

/** A quota is full again after this long without use: exporters send in batches, and after a pause in larger ones. */
const BURST_SECONDS = 10;

export const QUOTA_MESSAGE = 'this sender has used up its quota; nothing was kept, send it again later';

/** Lets everybody in. */
export const OPEN_GATE: Gate = ({ namespace }) => ({ isOpen: true, pass: undefined, namespace });

export function createGate({ authenticator, counters, clock }: GateOptions): Gate {
  if (!authenticator.isOn) return OPEN_GATE;
  // One for each name in the settings: however many tokens it has and whichever way it comes, it is one sender.
  const buckets = new Map<string, Bucket>();
  return (knock) => {
    const verdict = authenticator.identify(knock.credentials);
    if (verdict.kind === 'refused') return { isOpen: false, code: 'unauthenticated', message: verdict.message };
    const { principal } = verdict;
    const { name, sending } = principal;
    const forbidden = wrongIn(principal, knock);
    if (forbidden || !sending) {
      counters.add('forbidden', 1, { reason: forbidden?.reason ?? 'permission' });
      return { isOpen: false, code: 'forbidden', message: forbidden?.message ?? '' };
    }
    const bucket = buckets.get(name) ?? new Bucket(clock);
    buckets.set(name, bucket);
    const waitMs = bucket.waitMs(sending.quota);
    if (waitMs > 0) {
      counters.add('over_quota', 1, { sender: name });
      return { isOpen: false, code: 'over_share', message: QUOTA_MESSAGE, retryAfterMs: waitMs };
    }
    const namespace = knock.namespace ?? sending.namespaces?.[0];
    return { isOpen: true, pass: passFor(name, sending, bucket, counters), namespace };
  };
}

function passFor(name: string, { trusted, vouches, quota }: Sending, bucket: Bucket, counters: Counters): Pass {
  let isBegun = false;
  return {
    name,
    trusted,
    vouches,
    charge(items, bytes) {
      const waitMs = isBegun ? 0 : bucket.waitMs(quota);
      if (waitMs > 0) {
        counters.add('over_quota', 1, { sender: name });
        return waitMs;
      }
      isBegun = true;
      bucket.take(items, bytes, quota);
      counters.add('sender_items', items, { sender: name });
      counters.add('sender_bytes', bytes, { sender: name });
      return undefined;
    },
  };
}

interface Wrong {
  readonly reason: 'permission' | 'signal' | 'preset' | 'namespace';
  readonly message: string;
}

function wrongIn({ name, sending, can }: Principal, { signal, preset, namespace }: Knock): Wrong | undefined {
  if (!sending) {
    const message = `"${name}" may not send (its rights: ${[...can].join(', ')}); give it "can: [send]", or use another token`;
    return { reason: 'permission', message };
  }
  const { signals, presets, namespaces } = sending;
  if (signals && !signals.includes(signal)) {
    return { reason: 'signal', message: `"${name}" may not send ${signal}; it may send ${signals.join(', ')}` };
  }
  if (preset !== undefined && presets && !presets.includes(preset)) {
    return { reason: 'preset', message: `"${name}" may not send to this preset; it may send ${presets.join(', ')}` };
  }
  if (namespace !== undefined && namespaces && !namespaces.includes(namespace)) {
    const message = `"${name}" may not send to this namespace; ${NAMESPACE_HEADER} may be ${namespaces.join(', ')}`;
    return { reason: 'namespace', message };
  }
  return undefined;
}

/**
 * What is left of a sender's quota. It may go below nothing by one request, and is then paid back: so the rate holds whatever the size
 * of requests, and one of any size can be sent.
 */
class Bucket {
  readonly #clock: Clock;
  #atMs: number;
  /** Parts of what BURST_SECONDS bring; 1 is full. */
  #items = 1;
  #bytes = 1;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#atMs = clock.nowMs();
  }

  /** 0 when there is some left. */
  waitMs(quota: Quota | undefined): number {
    this.#refill();
    const owed = Math.max(
      quota?.itemsPerSecond === undefined ? 0 : -this.#items,
      quota?.bytesPerSecond === undefined ? 0 : -this.#bytes,
    );
    return Math.ceil(owed * BURST_SECONDS * 1000);
  }

  take(items: number, bytes: number, quota: Quota | undefined): void {
    if (quota?.itemsPerSecond !== undefined) this.#items -= items / (quota.itemsPerSecond * BURST_SECONDS);
    if (quota?.bytesPerSecond !== undefined) this.#bytes -= bytes / (quota.bytesPerSecond * BURST_SECONDS);
  }

  #refill(): void {
    const nowMs = this.#clock.nowMs();
    // Nothing for a clock that was set back.
    const share = Math.max(0, nowMs - this.#atMs) / (BURST_SECONDS * 1000);
    this.#atMs = nowMs;
    this.#items = Math.min(1, this.#items + share);
    this.#bytes = Math.min(1, this.#bytes + share);
  }
}
