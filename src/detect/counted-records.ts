import { hexOfWords } from '../core/hex.ts';

/** A record that counted, and for what. */
export interface Counted<Group> {
  readonly record: string;
  readonly group: Group;
  readonly interval: number;
  readonly value: number;
}

/** Records have ids of so many hexadecimal digits; others are kept as text besides. */
const ID_CHARS = 32;
const ID_WORDS = 4;
const WORD_CHARS = 8;
const PRIME = 0x0100_0193;
const SPREAD = 0x9e37_79b1;
const HALF_BITS = 16;

/** What a digit of an id stands for; 16 for what is none. */
const DIGITS = new Uint8Array(128).fill(16);
for (const [value, digit] of [...'0123456789abcdef'].entries()) DIGITS[digit.charCodeAt(0)] = value;

/** The id that was read last: several rules look at one record. */
const last = { id: '', isPlain: false, words: new Int32Array(ID_WORDS) };

function read(id: string): void {
  if (id === last.id) return;
  last.id = id;
  last.isPlain = id.length === ID_CHARS;
  for (let word = 0; word < ID_WORDS && last.isPlain; word++) {
    let bits = 0;
    for (let at = word * WORD_CHARS; at < (word + 1) * WORD_CHARS; at++) {
      const digit = DIGITS[id.charCodeAt(at)] ?? 16;
      if (digit === 16) last.isPlain = false;
      bits = (bits << 4) | digit;
    }
    last.words[word] = bits;
  }
  if (last.isPlain) return;
  let hash = id.length;
  for (let at = 0; at < id.length; at++) hash = Math.imul(hash ^ id.charCodeAt(at), PRIME);
  last.words.fill(hash);
}

/** Of all four words: not every id is a digest. */
function hashAt(ids: Int32Array, at: number): number {
  let hash = 0;
  for (let word = at; word < at + ID_WORDS; word++) {
    hash = Math.imul(hash ^ (ids[word] as number), SPREAD);
    hash ^= hash >>> HALF_BITS;
  }
  return hash;
}

const SLOTS_MIN = 1024;

/**
 * The newest records that a rule counted, in the order in which they did: a ring with a table of hashes over it, in typed arrays,
 * because thousands of objects that live for a while are what a garbage collector is busiest with. A slot is of use until the
 * next record is added.
 */
export class CountedRecords<Group> {
  readonly #recordsMax: number;
  /** Slots, a power of two, less one. Places are counted on and on: each is in the slot that its last bits say. */
  #mask = -1;
  #first = 0;
  #next = 0;
  #size = 0;
  #ids = new Int32Array(0);
  /** Undefined where a record was taken out. */
  #groups: (Group | undefined)[] = [];
  #intervals = new Float64Array(0);
  #values = new Float64Array(0);
  /** Ids that are no digits, by slot. */
  readonly #texts = new Map<number, string>();
  /** A record that was looked for and is not among them: it is what is added next, nearly always. */
  #absent: string | undefined;
  /** By hash the newest slot, and by slot the one before with that hash; each one more than it is, 0 for none. */
  #heads = new Int32Array(0);
  #before = new Int32Array(0);

  /** Of more records than a quarter over `recordsMax` only so many are kept: many at a time, because that is faster. */
  constructor(recordsMax: number) {
    this.#recordsMax = recordsMax;
    this.#rebuild(SLOTS_MIN);
  }

  get size(): number {
    return this.#size;
  }

  /** The slot of a record, -1 where it is not among them. */
  find(record: string): number {
    read(record);
    const { words, isPlain } = last;
    let slot = (this.#heads[hashAt(words, 0) & this.#mask] as number) - 1;
    for (; slot >= 0; slot = (this.#before[slot] as number) - 1) {
      const at = slot * ID_WORDS;
      let word = 0;
      while (word < ID_WORDS && this.#ids[at + word] === words[word]) word++;
      if (word === ID_WORDS && this.#texts.get(slot) === (isPlain ? undefined : record)) break;
    }
    if (slot < 0) this.#absent = record;
    return slot;
  }

  at(slot: number): Counted<Group> {
    const group = this.#groups[slot] as Group;
    const [interval, value] = [this.#intervals[slot] as number, this.#values[slot] as number];
    return { record: this.#texts.get(slot) ?? this.#idAt(slot), group, interval, value };
  }

  /** A record that is among them keeps its place. */
  set(record: string, group: Group, interval: number, value: number): void {
    const known = record === this.#absent ? -1 : this.find(record);
    const slot = known < 0 ? this.#add(record) : known;
    this.#groups[slot] = group;
    this.#intervals[slot] = interval;
    this.#values[slot] = value;
    if (this.#size <= this.#recordsMax + this.#recordsMax / 4) return;
    for (; this.#size > this.#recordsMax; this.#first++) {
      const oldest = this.#first & this.#mask;
      if (this.#groups[oldest] !== undefined) this.remove(oldest);
    }
  }

  remove(slot: number): void {
    const hash = hashAt(this.#ids, slot * ID_WORDS) & this.#mask;
    const before = this.#before[slot] as number;
    let at = (this.#heads[hash] as number) - 1;
    if (at === slot) this.#heads[hash] = before;
    else {
      while (this.#before[at] !== slot + 1) at = (this.#before[at] as number) - 1;
      this.#before[at] = before;
    }
    this.#groups[slot] = undefined;
    if (this.#texts.size > 0) this.#texts.delete(slot);
    this.#size--;
  }

  /** The slot of the record that counted next after the one in this slot, or first of all; -1 where there is none. */
  after(slot = -1): number {
    const from = slot < 0 ? this.#first : this.#first + ((slot - this.#first) & this.#mask) + 1;
    for (let place = from; place < this.#next; place++) {
      const next = place & this.#mask;
      if (this.#groups[next] !== undefined) return next;
    }
    return -1;
  }

  #add(record: string): number {
    this.#absent = undefined;
    // Others may have been looked for elsewhere since.
    read(record);
    const slots = this.#mask + 1;
    if (this.#next - this.#first === slots) this.#rebuild(this.#size > slots / 2 ? slots * 2 : slots);
    return this.#append(last.words, last.isPlain ? undefined : record);
  }

  #append(words: Int32Array, text: string | undefined): number {
    const slot = this.#next++ & this.#mask;
    const hash = hashAt(words, 0) & this.#mask;
    for (let word = 0; word < ID_WORDS; word++) this.#ids[slot * ID_WORDS + word] = words[word] as number;
    if (text !== undefined) this.#texts.set(slot, text);
    this.#before[slot] = this.#heads[hash] as number;
    this.#heads[hash] = slot + 1;
    this.#size++;
    return slot;
  }

  /** The same in so many slots, without those that were taken out in between. */
  #rebuild(slots: number): void {
    const [ids, groups, intervals, values] = [this.#ids, this.#groups, this.#intervals, this.#values];
    const [first, next, mask, texts] = [this.#first, this.#next, this.#mask, new Map(this.#texts)];
    [this.#first, this.#next, this.#size, this.#mask] = [0, 0, 0, slots - 1];
    this.#ids = new Int32Array(slots * ID_WORDS);
    this.#groups = new Array(slots).fill(undefined);
    this.#intervals = new Float64Array(slots);
    this.#values = new Float64Array(slots);
    this.#heads = new Int32Array(slots);
    this.#before = new Int32Array(slots);
    this.#texts.clear();
    for (let place = first; place < next; place++) {
      const from = place & mask;
      if (groups[from] === undefined) continue;
      const to = this.#append(ids.subarray(from * ID_WORDS, (from + 1) * ID_WORDS), texts.get(from));
      this.#groups[to] = groups[from];
      this.#intervals[to] = intervals[from] as number;
      this.#values[to] = values[from] as number;
    }
  }

  #idAt(slot: number): string {
    return hexOfWords(this.#ids, slot * ID_WORDS, ID_WORDS);
  }
}
