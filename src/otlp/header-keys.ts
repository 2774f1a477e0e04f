const DOT = 0x2e;
const MARKS = ['.header.', '.metadata.'];
const MARK_BYTES = MARKS.map((mark) => Buffer.from(mark));

/**
 * A bit for each pair of neighbouring bytes in the marks: those of which a byte, in either case, is the first, and those of
 * which it is the second. What both have in common is where a pair may stand. Small tables: they are read for every key.
 */
const FIRST = new Uint16Array(256);
const SECOND = new Uint16Array(256);
/** How far in its mark each pair stands. */
const DISTANCES: number[] = [];
for (const mark of MARKS) {
  for (let at = 0; at + 1 < mark.length; at++) {
    const bit = 1 << DISTANCES.length;
    DISTANCES.push(at);
    for (const text of [mark, mark.toUpperCase()]) {
      FIRST[text.charCodeAt(at)] = (FIRST[text.charCodeAt(at)] as number) | bit;
      SECOND[text.charCodeAt(at + 1)] = (SECOND[text.charCodeAt(at + 1)] as number) | bit;
    }
  }
}

/** The shorter mark has seven pairs: of any seven places in a row one holds a pair of a mark that stands there. */
const STEP = 7;

/**
 * Where the name begins in the key of a captured header or of gRPC metadata: `http.request.header.<name>`,
 * `rpc.grpc.response.metadata.<name>` and their kin; -1 when the key is none of these. Looks at few bytes of other keys.
 */
export function headerNameStart(bytes: Uint8Array, start: number, end: number): number {
  for (let at = start + STEP; at + 1 < end; at += STEP) {
    let pairs = (FIRST[bytes[at] as number] as number) & (SECOND[bytes[at + 1] as number] as number);
    for (; pairs !== 0; pairs &= pairs - 1) {
      const dot = at - (DISTANCES[31 - Math.clz32(pairs & -pairs)] as number);
      const nameStart = dot > start && bytes[dot] === DOT ? markEnd(bytes, dot) : end;
      if (nameStart < end) return nameStart;
    }
  }
  return -1;
}

/** Exclusive end of the mark that begins with this dot; Infinity when none does. */
function markEnd(bytes: Uint8Array, dot: number): number {
  for (const mark of MARK_BYTES) {
    let length = 1;
    while (length < mark.length && ((bytes[dot + length] as number) | 0x20) === mark[length]) length++;
    if (length === mark.length) return dot + length;
  }
  return Infinity;
}

const COOKIE = /cookie/i;
const AUTHORIZATION = /authorization$/i;
/** Names that say that the value is a proof. Counts of tokens are none. */
const SECRET = /token(?!s)|secret|passw|api[-_]?key|access[-_]?key|signature|credential|jwt|assertion/i;

/** Names that are remembered; senders that make up names without end must not fill the memory. */
const NAMES_MAX = 2000;

/** How the value of a header is masked: see Mode in mask.ts. */
type HeaderMode = 'all' | 'cookie' | 'baggage' | 'authorization' | 'token' | 'header';

const modes = new Map<string, HeaderMode>();

export function modeOfHeader(name: string): HeaderMode {
  const known = modes.get(name);
  if (known !== undefined) return known;
  let mode: HeaderMode = 'header';
  if (COOKIE.test(name)) mode = /cookie$/i.test(name) ? 'cookie' : 'all';
  else if (AUTHORIZATION.test(name)) mode = 'authorization';
  else if (/^baggage$/i.test(name)) mode = 'baggage';
  else if (SECRET.test(name)) mode = 'token';
  if (modes.size >= NAMES_MAX) modes.clear();
  modes.set(name, mode);
  return mode;
}
