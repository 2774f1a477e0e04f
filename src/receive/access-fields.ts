import { describeError } from '../core/errors.ts';
import { FIELD_CHARS_MAX } from '../core/limits.ts';
import { VALUE_DEPTH_MAX } from '../otlp/wire.ts';
import type { RejectCode } from './receipt.ts';

/** A value of an attribute: what OTLP's AnyValue holds. */
export type FieldValue = string | number | boolean | readonly FieldValue[] | { readonly [key: string]: FieldValue };

/**
 * Longest free text and attribute, in UTF-8 bytes. A record keeps 4,096 characters of any field; what is far longer is a
 * document, not a field, and would cost the log its room.
 */
export const TEXT_BYTES_MAX = 64 * 1024;

/** Attributes of an event: four times what instrumentations put on a rich span. */
export const ATTRIBUTES_MAX = 256;

/** Longest name of an attribute, in characters; real ones stay below 100. */
const NAME_CHARS_MAX = 256;

/** Names of ours, by which later stages know how an event came. */
const RESERVED_PREFIX = 'spantrail.';

/** What is wrong with one event. Internal: the receipt carries it out. */
export class Refused extends Error {
  readonly code: RejectCode;
  readonly field: string;

  constructor(code: RejectCode, field: string, reason: string) {
    super(reason);
    this.code = code;
    this.field = field;
  }
}

export interface FieldNote {
  readonly field: string;
  readonly reason: string;
}

export function isPlain(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * One object of an event, read field by field. Fields may be named as in the .proto file or in lowerCamelCase; null, empty
 * text and empty lists are the same as absent, as they are in protobuf.
 */
export class Fields {
  /** Where it is in the event, with a dot behind; empty for the event itself. */
  readonly #path: string;
  readonly #values = new Map<string, unknown>();
  readonly #asked = new Set<string>();

  constructor(values: Readonly<Record<string, unknown>>, path = '') {
    this.#path = path;
    for (const [key, value] of Object.entries(values)) {
      if (value === undefined || value === null || value === '') continue;
      const name = key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      if (!this.#values.has(name)) this.#values.set(name, value);
    }
  }

  path(name: string): string {
    return this.#path + name;
  }

  get(name: string): unknown {
    this.#asked.add(name);
    return this.#values.get(name);
  }

  /** Text that says who, what or which: it must not be cut, or it would say another. Numbers are taken as their digits. */
  name(name: string, charsMax = FIELD_CHARS_MAX): string | undefined {
    return asName(this.get(name), this.path(name), charsMax);
  }

  /** Text for people, of which a record keeps the beginning. */
  words(name: string): string | undefined {
    const text = asText(this.get(name), this.path(name));
    if (text !== undefined) checkBytes(text, this.path(name));
    return text;
  }

  /** One of a few words, in any case. */
  oneOf<Word extends string>(name: string, words: readonly Word[]): Word | undefined {
    const text = asText(this.get(name), this.path(name));
    if (text === undefined) return undefined;
    const found = words.find((word) => word === text.toLowerCase());
    if (found) return found;
    throw new Refused('invalid', this.path(name), `must be ${listed(words)}, not ${quote(text)}`);
  }

  /** Ids of traces and spans. */
  hexId(name: string, digits: number): string | undefined {
    const text = asText(this.get(name), this.path(name))?.toLowerCase();
    if (text === undefined) return undefined;
    if (text.length === digits && /^[0-9a-f]*$/.test(text) && /[^0]/.test(text)) return text;
    throw new Refused('invalid', this.path(name), `must be ${digits} hex digits, not all zero, not ${quote(text)}`);
  }

  /** An object, or text that stands for the object with only that field. */
  object(name: string, shorthand?: string): Fields | undefined {
    const value = this.get(name);
    if (value === undefined) return undefined;
    if (isPlain(value)) return new Fields(value, `${this.path(name)}.`);
    const isWord = typeof value === 'string' || typeof value === 'number';
    if (shorthand !== undefined && isWord) return new Fields({ [shorthand]: value }, `${this.path(name)}.`);
    const example = shorthand === undefined ? '' : ` like {"${shorthand}": "…"}`;
    throw new Refused('invalid', this.path(name), `must be an object${example}, not ${kindOf(value)}`);
  }

  /** A list of objects. */
  objects(name: string, itemsMax: number): readonly Fields[] {
    const value = this.get(name);
    if (value === undefined) return [];
    if (!Array.isArray(value)) {
      throw new Refused('invalid', this.path(name), `must be a list of objects, not ${kindOf(value)}`);
    }
    this.#checkCount(name, value.length, itemsMax);
    return value.map((item: unknown, index) => {
      const path = `${this.path(name)}[${index}]`;
      if (!isPlain(item)) throw new Refused('invalid', path, `must be an object, not ${kindOf(item)}`);
      return new Fields(item, `${path}.`);
    });
  }

  /** A list of names, or one of them. */
  names(name: string, itemsMax: number): readonly string[] {
    const value = this.get(name);
    if (value === undefined) return [];
    const list: unknown[] = Array.isArray(value) ? value : [value];
    this.#checkCount(name, list.length, itemsMax);
    return list.flatMap((item, index) => asName(item, `${this.path(name)}[${index}]`) ?? []);
  }

  /** A value of any shape. */
  value(name: string): FieldValue | undefined {
    const value = this.get(name);
    return value === undefined ? undefined : fieldValue(value, this.path(name));
  }

  /** Further fields, in the order of their names, so that the same event is always the same bytes. */
  attributes(name: string): readonly (readonly [string, FieldValue])[] {
    const value = this.get(name);
    if (value === undefined) return [];
    const path = this.path(name);
    if (!isPlain(value)) throw new Refused('invalid', path, `must be an object, not ${kindOf(value)}`);
    const entries = Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1));
    if (entries.length > ATTRIBUTES_MAX) {
      throw new Refused('too_many', path, `has ${entries.length} entries; at most ${ATTRIBUTES_MAX}`);
    }
    return entries.flatMap(([key, entry]) => {
      if (key.length > NAME_CHARS_MAX) {
        const reason = `an attribute’s name has ${key.length} characters; at most ${NAME_CHARS_MAX}`;
        throw new Refused('too_large', `${path}.${key.slice(0, 40)}…`, reason);
      }
      const at = `${path}.${key}`;
      if (key === '') throw new Refused('invalid', path, 'an attribute has no name');
      if (key.startsWith(RESERVED_PREFIX)) {
        throw new Refused('reserved', at, `names that start with ${RESERVED_PREFIX} are the receiver’s own`);
      }
      const read = entry === null || entry === undefined ? undefined : fieldValue(entry, at);
      return read === undefined ? [] : [[key, read] as const];
    });
  }

  /** Fields that nothing asked for: kept out, and said so. */
  unknown(): readonly FieldNote[] {
    const known = [...this.#asked];
    return [...this.#values.keys()]
      .filter((name) => !this.#asked.has(name))
      .map((name) => {
        const near = known.find((other) => other.startsWith(name.slice(0, 3)));
        const hint = near === undefined ? '' : ` (did you mean ${near}?)`;
        const reason = `unknown field, left out${hint}; further fields go into attributes`;
        return { field: this.path(name.slice(0, NAME_CHARS_MAX)), reason };
      });
  }

  #checkCount(name: string, items: number, itemsMax: number): void {
    if (items <= itemsMax) return;
    throw new Refused('too_many', this.path(name), `has ${items} entries; at most ${itemsMax}`);
  }
}

function asText(value: unknown, path: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string') return value.trim() === '' ? undefined : value.toWellFormed();
  if (typeof value === 'number' && Number.isSafeInteger(value)) return String(value);
  throw new Refused('invalid', path, `must be text, not ${kindOf(value)}`);
}

function asName(value: unknown, path: string, charsMax = FIELD_CHARS_MAX): string | undefined {
  const text = asText(value, path);
  if (text === undefined || text.length <= charsMax) return text;
  throw new Refused('too_large', path, `has ${text.length} characters; at most ${charsMax}`);
}

function checkBytes(text: string, path: string): void {
  const bytes = text.length > TEXT_BYTES_MAX ? text.length : Buffer.byteLength(text);
  if (bytes <= TEXT_BYTES_MAX) return;
  throw new Refused('too_large', path, `has ${Buffer.byteLength(text)} bytes; at most ${TEXT_BYTES_MAX}`);
}

/** Reads a value of JSON, with the keys of objects in order; nulls inside are left out. */
function fieldValue(value: unknown, path: string): FieldValue {
  let bytes = 0;
  const count = (more: number): void => {
    bytes += more;
  };
  const read = readValue(value, path, 0, count);
  if (bytes > TEXT_BYTES_MAX) {
    throw new Refused('too_large', path, `has ${bytes} bytes; at most ${TEXT_BYTES_MAX}`);
  }
  return read;
}

/** What each value costs besides its text, so that a list of a million nothings counts, too. */
const VALUE_BYTES = 2;

function readValue(value: unknown, path: string, depth: number, count: (bytes: number) => void): FieldValue {
  count(VALUE_BYTES);
  if (typeof value === 'string') {
    count(Buffer.byteLength(value));
    return value.toWellFormed();
  }
  if (typeof value === 'number' || typeof value === 'boolean') return value;
  if (depth >= VALUE_DEPTH_MAX) {
    throw new Refused('invalid', path, `is nested deeper than ${VALUE_DEPTH_MAX} levels`);
  }
  const isKept = (item: unknown): boolean => item !== null && item !== undefined;
  if (Array.isArray(value)) {
    return value.filter(isKept).map((item) => readValue(item, path, depth + 1, count));
  }
  if (!isPlain(value)) throw new Refused('invalid', path, `must be a value of JSON, not ${kindOf(value)}`);
  const entries = Object.entries(value).filter(([, item]) => isKept(item));
  entries.sort(([left], [right]) => (left < right ? -1 : 1));
  return Object.fromEntries(
    entries.map(([key, item]) => {
      count(Buffer.byteLength(key));
      return [key.toWellFormed(), readValue(item, path, depth + 1, count)];
    }),
  );
}

/** `a, b or c` */
function listed(words: readonly string[]): string {
  return `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}

/** What a sender wrote, short enough to be said back. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60).toWellFormed()}…` : text);
}

export function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'an object';
  if (typeof value === 'string') return `the text ${quote(value)}`;
  return `the ${typeof value} ${describeError(value)}`;
}
