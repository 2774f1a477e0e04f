/**
 * Encodes messages in ways that are legal and that no usual library chooses: fields in any order, scalars given twice (the
 * last counts), embedded messages in parts (they are merged), unknown fields and groups, lengths and tags padded with
 * continuation bytes, known field numbers with a wire type that is not theirs (unknown fields too).
 */
import type protobuf from 'protobufjs';
import { fixed64 as encodeFixed64, varint } from './encode.ts';
import type { Plain } from './oracle.ts';

/** A number below `limit`, from a seeded source. */
export type Choose = (limit: number) => number;

/** mulberry32, public domain: small and good enough to vary encodings. */
export function chooser(seed: number): Choose {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
}

export function encodeUnusually(type: protobuf.Type, message: Plain, choose: Choose): Buffer {
  return Buffer.concat(chunks(type, message, choose));
}

/** The message's fields in an order that keeps what must stay in order: the parts of one field, and of one oneof. */
function chunks(type: protobuf.Type, message: Plain, choose: Choose): Buffer[] {
  const groups = new Map<string, Buffer[]>();
  for (const field of type.fieldsArray) {
    const value = message[field.name];
    if (value === undefined) continue;
    const group = field.partOf?.name ?? field.name;
    const values = field.repeated ? (value as unknown[]) : [value];
    const parts = values.flatMap((item) => fieldChunks(field, item, choose));
    groups.set(group, [...(groups.get(group) ?? []), ...parts]);
  }
  for (let count = choose(3); count > 0; count--) groups.set(`unknown${count}`, [unknownField(type, choose)]);
  return interleave([...groups.values()], choose);
}

function fieldChunks(field: protobuf.Field, value: unknown, choose: Choose): Buffer[] {
  const type = field.resolve().resolvedType as protobuf.Type | null;
  if (type === null) {
    const once = scalar(field.type, field.id, value, choose);
    const decoy = DECOYS[field.type];
    // A repeated field given twice has two items; a oneof may be given as another member before.
    const twice = !field.repeated && decoy !== undefined && choose(4) === 0;
    return twice ? [scalar(field.type, field.id, decoy, choose), once] : [once];
  }
  const parts = chunks(type, value as Plain, choose);
  if (field.repeated || choose(3) > 0) return [delimited(field.id, Buffer.concat(parts), choose)];
  const cut = choose(parts.length + 1);
  return [parts.slice(0, cut), parts.slice(cut)].map((part) => delimited(field.id, Buffer.concat(part), choose));
}

/** Values that must not show, because the right one follows. */
const DECOYS: Readonly<Record<string, unknown>> = {
  string: 'decoy',
  bytes: Buffer.alloc(16, 7),
  int32: 77,
  int64: '77',
  fixed64: '77',
  fixed32: 77,
  bool: true,
  double: 0.5,
};

function scalar(type: string, id: number, value: unknown, choose: Choose): Buffer {
  switch (type) {
    case 'string':
      return delimited(id, Buffer.from(value as string), choose);
    case 'bytes':
      return delimited(id, value as Buffer, choose);
    case 'double': {
      const bytes = Buffer.alloc(8);
      bytes.writeDoubleLE(value as number);
      return Buffer.concat([paddedTag(id, 1, choose), bytes]);
    }
    case 'fixed64':
      return Buffer.concat([paddedTag(id, 1, choose), encodeFixed64(1, BigInt(value as string)).subarray(1)]);
    case 'fixed32': {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(value as number);
      return Buffer.concat([paddedTag(id, 5, choose), bytes]);
    }
    default:
      return Buffer.concat([
        paddedTag(id, 0, choose),
        padded(varint(BigInt(value as string | number | boolean)), 10, choose),
      ]);
  }
}

function delimited(id: number, content: Buffer, choose: Choose): Buffer {
  return Buffer.concat([paddedTag(id, 2, choose), padded(varint(content.length), 5, choose), content]);
}

/** Parsers read at most five bytes of a tag. */
function paddedTag(id: number, wireType: number, choose: Choose): Buffer {
  return padded(varint(id * 8 + wireType), 5, choose);
}

function padded(bytes: Buffer, bytesMax: number, choose: Choose): Buffer {
  if (choose(6) > 0 || bytes.length >= bytesMax) return bytes;
  const longer = Buffer.alloc(bytes.length + 1 + choose(bytesMax - bytes.length), 0x80);
  bytes.copy(longer);
  longer[bytes.length - 1] = (bytes.at(-1) ?? 0) | 0x80;
  longer[longer.length - 1] = 0;
  return longer;
}

function unknownField(type: protobuf.Type, choose: Choose): Buffer {
  const known = type.fieldsArray[choose(type.fieldsArray.length)]?.id ?? 1;
  switch (choose(4)) {
    case 0:
      // A known number, but no field of OTLP is a group.
      return Buffer.concat([paddedTag(known, 3, choose), group(known, choose)]);
    case 1:
      return Buffer.concat([paddedTag(1000, 1, choose), Buffer.alloc(8, choose(256))]);
    case 2:
      return delimited(1001, Buffer.alloc(choose(20), choose(256)), choose);
    default:
      return Buffer.concat([paddedTag(536_870_911, 0, choose), padded(varint(choose(2 ** 32)), 10, choose)]);
  }
}

/** What stands between the tags of a deprecated group, and its end. */
function group(id: number, choose: Choose): Buffer {
  const inner =
    choose(3) === 0 ? [paddedTag(7, 3, choose), group(7, choose)] : [delimited(1, Buffer.alloc(16, 9), choose)];
  return Buffer.concat([...inner, paddedTag(id, 4, choose)]);
}

function interleave(groups: readonly Buffer[][], choose: Choose): Buffer[] {
  const queues = groups.map((group) => [...group]).filter((group) => group.length > 0);
  const result: Buffer[] = [];
  while (queues.length > 0) {
    const index = choose(queues.length);
    const next = queues[index]?.shift();
    if (next !== undefined) result.push(next);
    if (queues[index]?.length === 0) queues.splice(index, 1);
  }
  return result;
}
