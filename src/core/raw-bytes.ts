/** Where bytes lie, as a Uint8Array says it: one of them for each span costs several times as much. */
export interface RawBytes {
  readonly buffer: ArrayBufferLike;
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** The bytes of the payload from `start` up to `end`. */
export function rawBytes({ buffer, byteOffset }: Uint8Array, start: number, end: number): RawBytes {
  return { buffer, byteOffset: byteOffset + start, byteLength: end - start };
}

export function bytesOf({ buffer, byteOffset, byteLength }: RawBytes): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
