import { describeError } from '../core/errors.ts';
import type { Signal } from '../core/evidence.ts';
import { quoteLongIntegers } from './json-integers.ts';
import { type Enumeration, type Message, type MessageField, REQUESTS, type Scalar } from './schema.ts';
import { NESTED_TOO_DEEP, VALUE_DEPTH_MAX } from './wire.ts';
import { WireWriter } from './writer.ts';

/** `path` is where in the document, as in `resourceSpans[0].scopeSpans[0].spans[1].name`; empty for the whole of it. */
export type TranscodeResult = { ok: true; payload: Buffer } | { ok: false; path: string; message: string };

/** The document is not what OTLP's JSON asks for. Internal: the result carries it out. */
class JsonError extends Error {}

/**
 * A JSON request (OTLP specification, "JSON Protobuf Encoding") as the same request in protobuf. Ids are hex; an id that is
 * not becomes one that the scan refuses, so that it costs its own span only. Enums may be numbers or names, 64-bit integers
 * strings or numbers, field names lowerCamelCase or as in the .proto files. null is the same as absent.
 */
export function transcodeJson(signal: Signal, body: Uint8Array): TranscodeResult {
  const transcoder = new Transcoder();
  try {
    transcoder.message(parse(body), REQUESTS[signal]);
    return { ok: true, payload: transcoder.writer.finish() };
  } catch (thrown) {
    if (!(thrown instanceof JsonError)) throw thrown;
    return { ok: false, path: transcoder.path(), message: thrown.message };
  }
}

function parse(body: Uint8Array): unknown {
  // The decoder leaves out a byte order mark, which is not JSON but what some clients write.
  const text = new TextDecoder().decode(quoteLongIntegers(body));
  try {
    return JSON.parse(text);
  } catch (thrown) {
    throw new JsonError(`not valid JSON: ${describeError(thrown)}`);
  }
}

const ID = /^(?:[0-9a-f]{2})*$/i;
const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}$/;
const INTEGER = /^-?\d{1,20}$/;
const DECIMAL = /^-?\d+(?:\.\d+)?(?:e[+-]?\d+)?$/i;

/** What an id that is no hex becomes: a length that no id has. */
const NO_ID = new Uint8Array(1);

/** The messages that can be nested without end. */
const LISTS: ReadonlySet<string> = new Set(['ArrayValue', 'KeyValueList']);

/** AnyValue.string_value, beside the lists. */
const STRING_VALUE = 1;

const UINT64_MAX = 2n ** 64n - 1n;
const INT64_MAX = 2n ** 63n - 1n;
const UINT32_MAX = 2n ** 32n - 1n;
const INT32_MAX = 2n ** 31n - 1n;

class Transcoder {
  readonly writer = new WireWriter();
  /** Names and indexes from the root to where we are. */
  readonly #path: (string | number)[] = [];
  /** Lists of values around us. */
  #listDepth = 0;

  path(): string {
    return this.#path
      .map((step) => (typeof step === 'number' ? `[${step}]` : `.${step}`))
      .join('')
      .slice(1);
  }

  message(value: unknown, schema: Message): void {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw mismatch('an object', value);
    const isList = LISTS.has(schema.name);
    if (isList) this.#listDepth++;
    for (const [name, content] of Object.entries(value)) {
      const field = schema.fields.get(name);
      if (field === undefined || content === null) continue;
      this.#path.push(name);
      if (field.repeated) this.#list(content, field);
      else this.#field(content, field);
      this.#path.pop();
    }
    if (isList) this.#listDepth--;
  }

  #list(value: unknown, field: MessageField): void {
    if (!Array.isArray(value)) throw mismatch('an array', value);
    for (let index = 0; index < value.length; index++) {
      this.#path.push(index);
      this.#field(value[index], field);
      this.#path.pop();
    }
  }

  #field(value: unknown, { number, type }: MessageField): void {
    if (typeof type === 'string') writeScalar(this.writer, value, number, type);
    else if ('names' in type) this.writer.integer(number, enumNumber(value, type));
    else if (LISTS.has(type.name) && this.#listDepth === VALUE_DEPTH_MAX) {
      this.writer.text(STRING_VALUE, NESTED_TOO_DEEP);
    }
    // An item that is null is an empty one: some clients write the empty value so.
    else this.writer.message(number, () => this.message(value ?? {}, type));
  }
}

/** Writes one field. Throws JsonError when the value is not of its type. */
function writeScalar(writer: WireWriter, value: unknown, number: number, type: Scalar): void {
  switch (type) {
    case 'string':
      if (typeof value !== 'string') throw mismatch('a string', value);
      writer.text(number, value);
      break;
    case 'bool':
      if (typeof value !== 'boolean') throw mismatch('true or false', value);
      writer.integer(number, value ? 1 : 0);
      break;
    case 'id':
      if (typeof value !== 'string') throw mismatch('a string of hex digits', value);
      writer.bytes(number, ID.test(value) ? Buffer.from(value, 'hex') : NO_ID);
      break;
    case 'bytes':
      if (typeof value !== 'string' || !BASE64.test(value)) throw mismatch('a string in base64', value);
      writer.bytes(number, Buffer.from(value, 'base64'));
      break;
    case 'double':
      writer.double(number, double(value));
      break;
    case 'int64':
      writer.integer(number, integer(value, -INT64_MAX - 1n, INT64_MAX));
      break;
    case 'uint64':
      writer.integer(number, integer(value, 0n, UINT64_MAX));
      break;
    case 'uint32':
      writer.integer(number, integer(value, 0n, UINT32_MAX));
      break;
    case 'sint32':
      writer.integer(number, zigzag(integer(value, -INT32_MAX - 1n, INT32_MAX)));
      break;
    case 'fixed32':
      writer.fixed32(number, Number(integer(value, 0n, UINT32_MAX)));
      break;
    case 'fixed64':
      writer.fixed64(number, integer(value, 0n, UINT64_MAX));
      break;
    case 'sfixed64':
      writer.fixed64(number, integer(value, -INT64_MAX - 1n, INT64_MAX));
      break;
  }
}

function integer(value: unknown, min: bigint, max: bigint): bigint {
  const given =
    Number.isInteger(value) || (typeof value === 'string' && INTEGER.test(value))
      ? BigInt(value as number | string)
      : undefined;
  if (given === undefined || given < min || given > max) throw mismatch(`an integer from ${min} to ${max}`, value);
  return given;
}

function double(value: unknown): number {
  if (typeof value === 'number') return value;
  if (value === 'NaN' || value === 'Infinity' || value === '-Infinity') return Number(value);
  if (typeof value === 'string' && DECIMAL.test(value)) return Number(value);
  throw mismatch('a number, "NaN", "Infinity" or "-Infinity"', value);
}

function enumNumber(value: unknown, { names }: Enumeration): bigint {
  const named = typeof value === 'string' ? names.indexOf(value) : -1;
  if (named >= 0) return BigInt(named);
  if (typeof value === 'string' && !INTEGER.test(value))
    throw mismatch(`an integer or one of ${names.join(', ')}`, value);
  return integer(value, -INT32_MAX - 1n, INT32_MAX);
}

/** How sint32 is written: 0, -1, 1, -2 … as 0, 1, 2, 3 … */
function zigzag(value: bigint): bigint {
  return value < 0n ? -2n * value - 1n : 2n * value;
}

/** Says what would be right, and only the kind of what is there: the value itself may be a secret. */
function mismatch(wanted: string, value: unknown): JsonError {
  const kind = value === null ? 'null' : Array.isArray(value) ? 'an array' : typeof value;
  return new JsonError(`must be ${wanted}, but is ${KIND_TEXT[kind] ?? kind}`);
}

const KIND_TEXT: Readonly<Record<string, string>> = {
  boolean: 'a boolean',
  number: 'another number',
  object: 'an object',
  string: 'another string',
};
