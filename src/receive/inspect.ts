import type { FrameNote, Signal } from '../core/evidence.ts';
import { type Mask, maskSecrets } from '../otlp/mask.ts';

/** What a request is found to hold before it is made durable. */
export interface Inspection {
  /** Secrets overwritten in the payload, in place. */
  readonly masked: number;
  readonly note: Pick<FrameNote, 'tokens' | 'sessions'>;
}

/** Overwrites secrets in the payload and finds out what only they can tell. Never throws, never waits for the network. */
export type Inspect = (signal: Signal, payload: Buffer) => Inspection | Promise<Inspection>;

export function createInspect(mask: Mask): Inspect {
  return (signal, payload) => ({ masked: maskSecrets(payload, signal, mask), note: {} });
}
