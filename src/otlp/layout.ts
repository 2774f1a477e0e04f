import { WIRE, WireCursor, WireError } from './wire.ts';

const FIRST = (1 << 3) | WIRE.delimited;
const SECOND = (2 << 3) | WIRE.delimited;

/**
 * Where the resource and scope blocks of a request are. The blocks of traces, logs and metrics have the same field numbers:
 * request 1 = resource block; resource block 1 = resource, 2 = scope block; scope block 1 = scope, 2 = item.
 */
export class Layout {
  /** Content of each scope block, in payload order. */
  readonly #scopeStarts: number[] = [];
  readonly #scopeEnds: number[] = [];
  /** For each scope block, the number of its resource block. */
  readonly #resourceOf: number[] = [];
  readonly #resourceStarts: number[] = [];
  readonly #resourceEnds: number[] = [];
  #lastScope = 0;

  /** Throws WireError when the blocks are not framed as they should be. */
  constructor(payload: Uint8Array) {
    const cursor = new WireCursor(payload);
    while (cursor.position < payload.length) {
      const tag = cursor.tag(payload.length);
      if (tag !== FIRST) {
        cursor.skip(tag, payload.length);
        continue;
      }
      const end = cursor.delimitedEnd(payload.length);
      this.#resourceStarts.push(cursor.position);
      this.#resourceEnds.push(end);
      this.#addScopes(cursor, end);
    }
  }

  #addScopes(cursor: WireCursor, end: number): void {
    while (cursor.position < end) {
      const tag = cursor.tag(end);
      if (tag !== SECOND) {
        cursor.skip(tag, end);
        continue;
      }
      const scopeEnd = cursor.delimitedEnd(end);
      this.#scopeStarts.push(cursor.position);
      this.#scopeEnds.push(scopeEnd);
      this.#resourceOf.push(this.#resourceStarts.length - 1);
      cursor.position = scopeEnd;
    }
  }

  /** Number of the scope block that holds this offset. Fast for offsets in the same block as before. */
  scopeAt(offset: number): number {
    if (!this.#holds(this.#lastScope, offset)) {
      let low = 0;
      let high = this.#scopeStarts.length;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if ((this.#scopeStarts[middle] as number) <= offset) low = middle + 1;
        else high = middle;
      }
      this.#lastScope = low - 1;
    }
    if (!this.#holds(this.#lastScope, offset)) throw new WireError(offset, 'no item starts here');
    return this.#lastScope;
  }

  #holds(scope: number, offset: number): boolean {
    return (this.#scopeStarts[scope] ?? Infinity) <= offset && offset <= (this.#scopeEnds[scope] as number);
  }

  scopeStart(scope: number): number {
    return this.#scopeStarts[scope] as number;
  }

  scopeEnd(scope: number): number {
    return this.#scopeEnds[scope] as number;
  }

  /** Number of the resource block that holds this scope block. */
  resourceOf(scope: number): number {
    return this.#resourceOf[scope] as number;
  }

  resourceStart(resource: number): number {
    return this.#resourceStarts[resource] as number;
  }

  resourceEnd(resource: number): number {
    return this.#resourceEnds[resource] as number;
  }
}
