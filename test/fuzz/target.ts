import type { Random } from '../simulation/random.ts';

/** What a fuzzed decoder promised and did not keep. */
export class FuzzFailure extends Error {}

/** A decoder with all that it promises for any input. */
export interface Target {
  readonly name: string;
  /** Share of the messages. */
  readonly weight: number;
  /** Inputs to start from, beside those of the corpus. */
  readonly samples: readonly Buffer[];
  /** The target whose files of the corpus it starts from, too; its own are always. */
  readonly corpus?: string;
  /** Words of the language of the input. */
  readonly tokens?: readonly string[];
  /** A new input, now and then instead of a changed one. */
  readonly generate?: (random: Random) => Buffer;
  /** Throws for a promise that is not kept, and for nothing else. Must not change the input. */
  readonly check: (input: Buffer) => void | Promise<void>;
}

export function promise(isKept: boolean, words: () => string): asserts isKept {
  if (!isKept) throw new FuzzFailure(words());
}
