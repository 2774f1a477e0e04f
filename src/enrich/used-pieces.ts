import type { BeyondCounts, LogRecord, Span } from '../core/evidence.ts';
import type { EvidenceCounts } from '../core/settlement.ts';
import type { TraceTree } from './trace-tree.ts';

/** The pieces that the records of one trace rest on: spans by their index in the tree, so that most traces need no set. */
export class UsedPieces {
  readonly #tree: TraceTree;
  readonly #isUsed: boolean[];
  #spans = 0;
  #others: Set<Span | LogRecord> | undefined;

  constructor(tree: TraceTree) {
    this.#tree = tree;
    this.#isUsed = new Array(tree.spans.length).fill(false);
  }

  get size(): number {
    return this.#spans + (this.#others?.size ?? 0);
  }

  add(piece: Span | LogRecord): void {
    const index = this.#indexOf(piece);
    if (index === undefined) {
      this.#others ??= new Set();
      this.#others.add(piece);
    } else if (this.#isUsed[index] === false) {
      this.#isUsed[index] = true;
      this.#spans += 1;
    }
  }

  has(piece: Span | LogRecord): boolean {
    const index = this.#indexOf(piece);
    return index === undefined ? (this.#others?.has(piece) ?? false) : this.#isUsed[index] === true;
  }

  /** How many of these are among them. */
  among(pieces: readonly (Span | LogRecord)[]): number {
    let count = 0;
    for (const piece of pieces) if (this.has(piece)) count += 1;
    return count;
  }

  #indexOf(piece: Span | LogRecord): number | undefined {
    if (!('kind' in piece)) return undefined;
    const index = this.#tree.indexOf.get(piece.spanId);
    return index !== undefined && this.#tree.spans[index] === piece ? index : undefined;
  }
}

/** Where pieces went: `used` and `excluded` of those `given`, `duplicate` ones among them. */
interface Use {
  readonly given: number;
  readonly duplicate: number;
  readonly used: number;
  /** Left out by a rule, and used by no record. */
  readonly excluded: number;
}

/** Where each piece given went, and each that was not looked at; the four add up to the number of all. */
export function countUse(
  { given, duplicate, used, excluded }: Use,
  beyond: readonly (BeyondCounts | undefined)[],
): EvidenceCounts {
  const counts = { used, context: given - duplicate - used - excluded, excluded, duplicate };
  for (const more of beyond) {
    if (more === undefined) continue;
    counts.context += more.context;
    counts.excluded += more.excluded;
    counts.duplicate += more.duplicate;
  }
  return counts;
}
