/** Words of one row: offsets into the payload, and the flags that are part of the span. */
export const ROW = {
  /** Start and exclusive end of the Span message. */
  itemStart: 0,
  itemEnd: 1,
  /** 16 bytes. */
  traceIdAt: 2,
  /** 8 bytes; none is all zero. */
  spanIdAt: 3,
  /** 8 bytes; -1 for none. */
  parentIdAt: 4,
  /** 8 bytes, little-endian; -1 where the span is not written in the usual way, and these three are not known. */
  startAt: 5,
  endAt: 6,
  flags: 7,
} as const;
export const ROW_WORDS = 8;

/** What is known of a part of a request by its very bytes, shared by all requests that have them. */
export interface KnownPart {
  /** From 1 on; no other part of the same process has it, or had it. */
  readonly number: number;
  /** Was it searched for secrets, and did it prove to hold none? */
  isClean: boolean;
  /** What it says once decoded (`SpanContent`), to a sender that is trusted so far (`trustOf`). */
  contentOf(trust: number): object | undefined;
  setContent(trust: number, content: object | undefined): void;
}

/** A resource or a scope. */
export interface HeadPart {
  readonly start: number;
  readonly part: KnownPart | undefined;
}

/** Where the spans of one request are that count, in the order of its bytes, as one walk over them found. */
export interface SpanRows {
  readonly count: number;
  /** `ROW_WORDS` a span. */
  readonly words: Int32Array;
  /** By row: what its bytes are known by, ids and times left out; undefined for what has not come before. */
  readonly parts: readonly (KnownPart | undefined)[];
  readonly heads: readonly HeadPart[];
  /** Everything in it is known to hold no secret. */
  readonly isClean: boolean;
}
