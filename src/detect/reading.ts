import { FIELDS, type Field, type FieldValue } from '../core/fields.ts';
import { LATE_FIELDS } from '../core/settlement.ts';

const NOTHING: readonly FieldValue[] = [];

export interface Place {
  readonly slot: number;
  readonly path: readonly string[];
  /** Records of one form differ in it. */
  readonly isLate: boolean;
}

const PLACES: ReadonlyMap<string, Place> = new Map(
  FIELDS.map(({ name }, slot) => [name, { slot, path: name.split('.'), isLate: isLate(name) }]),
);

function isLate(name: string): boolean {
  return LATE_FIELDS.some((late) => name === late || name.startsWith(`${late}.`));
}

export function placeOf({ name }: Field): Place {
  return placeNamed(name);
}

export function placeNamed(name: string): Place {
  const place = PLACES.get(name);
  if (place === undefined) throw new Error(`the catalogue has no field ${name}`);
  return place;
}

/** What is read: the document may cost something to make, so it is asked for only when a value is. */
interface Source {
  readonly namespace: string;
  readonly document: object;
  /** `event.duration` when it is known without the document. */
  readonly durationNs?: number | undefined;
}

/**
 * One document while rules look at it: each field is looked up once, and what several rules ask is answered once. It knows
 * whether an answer rests on a late field.
 */
export class Reading {
  #source: Source = { namespace: '', document: {} };
  #document: object | undefined;
  /** Counts the documents: what was found in an earlier one is of no use. */
  #turn = 1;
  #hasReadLate = false;
  readonly #values: (readonly FieldValue[])[] = FIELDS.map(() => NOTHING);
  readonly #valuesTurn: number[] = FIELDS.map(() => 0);
  /** Answers to what has a number, with the turn that they are of. */
  readonly #answers: unknown[] = [];
  readonly #answersTurn: number[] = [];

  /** The document that is read from now on, in the shape of a record. */
  start(source: Source): void {
    this.#source = source;
    this.#document = undefined;
    this.#turn++;
  }

  /** All of it, so late fields too. */
  get document(): object {
    this.#hasReadLate = true;
    return this.#whole();
  }

  #whole(): object {
    this.#document ??= this.#source.document;
    return this.#document;
  }

  values({ slot, path, isLate }: Place): readonly FieldValue[] {
    if (isLate) this.#hasReadLate = true;
    if (this.#valuesTurn[slot] === this.#turn) return this.#values[slot] ?? NOTHING;
    const found = valuesAt(this.#whole(), path, 0);
    this.#values[slot] = found;
    this.#valuesTurn[slot] = this.#turn;
    return found;
  }

  get namespace(): string {
    return this.#source.namespace;
  }

  get durationNs(): number | undefined {
    return this.#source.durationNs;
  }

  /** Did anything since the last call look at a late field? */
  takeLate(): boolean {
    const hasRead = this.#hasReadLate;
    this.#hasReadLate = false;
    return hasRead;
  }

  /** The answer to what has this number, worked out once for each document. `isLate`: it may look at late fields. */
  answer<Answer>(number: number, isLate: boolean, ask: (reading: Reading) => Answer): Answer {
    if (isLate) this.#hasReadLate = true;
    if (this.#answersTurn[number] === this.#turn) return this.#answers[number] as Answer;
    const answer = ask(this);
    this.#answers[number] = answer;
    this.#answersTurn[number] = this.#turn;
    return answer;
  }
}

/** Numbers of what rules ask for, by its text: as many as people write. */
const numbers = new Map<string, number>();

export function numberOf(text: string): number {
  const number = numbers.get(text) ?? numbers.size;
  numbers.set(text, number);
  return number;
}

function valuesAt(start: unknown, path: readonly string[], from: number): readonly FieldValue[] {
  let node = start;
  for (let depth = from; depth < path.length; depth++) {
    if (typeof node !== 'object' || node === null) return NOTHING;
    if (Array.isArray(node)) return valuesInEach(node, path, depth);
    node = (node as Record<string, unknown>)[path[depth] ?? ''];
  }
  if (node === undefined || node === null) return NOTHING;
  if (!Array.isArray(node)) return typeof node === 'object' ? NOTHING : [node as FieldValue];
  const isPlain = node.every(isValue);
  return isPlain ? node : node.filter(isValue);
}

/** By itself: a function made in the loop would cost every reading of a field. */
function valuesInEach(list: readonly unknown[], path: readonly string[], from: number): readonly FieldValue[] {
  return list.flatMap((one) => valuesAt(one, path, from));
}

function isValue(value: unknown): value is FieldValue {
  return value !== null && value !== undefined && typeof value !== 'object';
}
