import type { Attributes, AttributeValue } from './evidence.ts';

/** Keys that a shape shared by others may have; tables with more have one of their own. */
const SHARED_KEYS_MAX = 64;

/** Characters of a key that shapes remember; a sender may make up longer ones, each another. */
const SHARED_KEY_CHARS_MAX = 256;

/** Shapes known at a time: instrumentations have few orders in which they write their keys. */
const SHAPES_MAX = 4096;

/** Functions made by `byKeys`; each has a place among the answers of a shape. */
let functions = 0;

/** Which keys a table has, in their order. Tables with the same keys in the same order have the same one. */
class KeyShape {
  readonly keys: string[];
  /** The key that came last; tells the shape from its siblings. */
  readonly last: string;
  readonly isShared: boolean;
  /** By function: what it answers for these keys, and the rules it went by. */
  readonly answers: ({ readonly rules: unknown; readonly answer: unknown } | undefined)[] = [];
  /** The shape that followed last. */
  likely: KeyShape | undefined;
  #next: Map<string, KeyShape> | undefined;
  #places: Map<string, number> | undefined;

  constructor(keys: string[], isShared: boolean) {
    this.keys = keys;
    this.last = keys.at(-1) ?? '';
    this.isShared = isShared;
  }

  get places(): ReadonlyMap<string, number> {
    this.#places ??= new Map(this.keys.map((key, place) => [key, place]));
    return this.#places;
  }

  /** The shape with one key more, that this one lacks. */
  after(key: string): KeyShape {
    if (!this.isShared) {
      this.#places?.set(key, this.keys.length);
      this.keys.push(key);
      return this;
    }
    const isTooMuch = this.keys.length === SHARED_KEYS_MAX || key.length > SHARED_KEY_CHARS_MAX;
    if (isTooMuch) return new KeyShape([...this.keys, key], false);
    let next = this.#next?.get(key);
    if (next === undefined) {
      next = new KeyShape([...this.keys, key], true);
      this.#next ??= new Map();
      this.#next.set(key, next);
      countShape();
    }
    this.likely = next;
    return next;
  }
}

let first = new KeyShape([], true);
let shapes = 0;

/** Shapes that no table has any more go when all begin anew. */
function countShape(): void {
  shapes += 1;
  if (shapes < SHAPES_MAX) return;
  first = new KeyShape([], true);
  shapes = 0;
}

/**
 * Attributes as a list of values beside a list of keys that is shared by all that have the same keys: a fifth of a Map's memory, and what
 * follows from the keys alone is found out once (`byKeys`). Read as a Map is; who reads a message fills it.
 */
export class AttributeTable implements Attributes {
  shape = first;
  readonly #values: AttributeValue[] = [];

  set(key: string, value: AttributeValue): this {
    const { likely } = this.shape;
    if (likely !== undefined && likely.last === key) {
      this.shape = likely;
      this.#values.push(value);
      return this;
    }
    const place = this.shape.places.get(key);
    if (place !== undefined) this.#values[place] = value;
    else {
      this.shape = this.shape.after(key);
      this.#values.push(value);
    }
    return this;
  }

  get size(): number {
    return this.#values.length;
  }

  get(key: string): AttributeValue | undefined {
    const place = this.shape.places.get(key);
    return place === undefined ? undefined : this.#values[place];
  }

  has(key: string): boolean {
    return this.shape.places.has(key);
  }

  keys(): MapIterator<string> {
    return this.shape.keys.values();
  }

  values(): MapIterator<AttributeValue> {
    return this.#values.values();
  }

  entries(): MapIterator<[string, AttributeValue]> {
    return this.shape.keys
      .map((key, place): [string, AttributeValue] => [key, this.#values[place] as AttributeValue])
      .values();
  }

  [Symbol.iterator](): MapIterator<[string, AttributeValue]> {
    return this.entries();
  }

  forEach(visit: (value: AttributeValue, key: string, attributes: Attributes) => void): void {
    for (const [key, value] of this) visit(value, key, this);
  }
}

/**
 * The same function of the keys that attributes have, which remembers its answers by their shape: most attributes lack most of what is
 * looked for, and have the keys that others had before.
 */
export function byKeys<Answer, Rules = void>(
  compute: (keys: readonly string[], rules: Rules) => Answer,
): (attributes: Attributes, rules: Rules) => Answer {
  const number = functions;
  functions += 1;
  return (attributes, rules) => {
    if (!(attributes instanceof AttributeTable)) return compute([...attributes.keys()], rules);
    const { shape } = attributes;
    const before = shape.answers[number];
    if (before !== undefined && before.rules === rules) return before.answer as Answer;
    const answer = compute(shape.keys, rules);
    // One that is not shared still grows.
    if (shape.isShared) shape.answers[number] = { rules, answer };
    return answer;
  };
}
