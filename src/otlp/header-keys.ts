const DOT = 0x2e;
const MARKS = ['.header.', '.metadata.'];

/**
 * Pairs of neighbouring bytes of the marks, in either case: at the first byte × 256 + the second, a bit for each place in a
 * mark at which the pair stands.
 */
const PAIRS = new Uint16Array(0x1_0000);
for (const mark of MARKS) {
  for (let at = 0; at + 1 < mark.length; at++) {
    for (const first of casesOf(mark, at)) {
      for (const second of casesOf(mark, at + 1))
        PAIRS[first * 256 + second] = (PAIRS[first * 256 + second] ?? 0) | (1 << at);
    }
  }
}

function casesOf(mark: string, at: number): number[] {
  return [mark.charCodeAt(at), mark.toUpperCase().charCodeAt(at)];
}

/** The shorter mark has seven pairs: of any seven places in a row one holds a pair of a mark that stands there. */
const STEP = 7;

/**
 * Where the name begins in the key of a captured header or of gRPC metadata: `http.request.header.<name>`,
 * `rpc.grpc.response.metadata.<name>` and their kin; -1 when the key is none of these. Looks at few bytes of other keys.
 */
export function headerNameStart(bytes: Uint8Array, start: number, end: number): number {
  for (let at = start + STEP; at + 1 < end; at += STEP) {
    let places = PAIRS[(bytes[at] as number) * 256 + (bytes[at + 1] as number)] as number;
    for (; places !== 0; places &= places - 1) {
      const dot = at - 31 + Math.clz32(places & -places);
      const nameStart = dot > start && bytes[dot] === DOT ? markEnd(bytes, dot) : end;
      if (nameStart < end) return nameStart;
    }
  }
  return -1;
}

/** Exclusive end of the mark that begins with this dot; Infinity when none does. */
function markEnd(bytes: Uint8Array, dot: number): number {
  for (const mark of MARKS) {
    let length = 1;
    while (length < mark.length && ((bytes[dot + length] as number) | 0x20) === (mark.charCodeAt(length) | 0x20))
      length++;
    if (length === mark.length) return dot + length;
  }
  return Infinity;
}
