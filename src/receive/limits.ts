/**
 * What one client may cost the receiver. Bytes and connections are settings; these are the bounds that nobody needs to move,
 * each with its reason. Node and nghttp2 bring more of them, which test/receive/hostile-grpc.test.ts pins: header lists of 128
 * pairs and 64 KiB, 8 CONTINUATION frames, 1,000 streams reset in a burst and 33 a second, floods of empty frames, 1,000
 * answers to pings and settings that wait because the client does not read them.
 */

/** Requests in work over all connections. One costs some 10 kB besides its bytes, so these cost 40 MB. */
export const REQUESTS_MAX = 4096;

/** Streams one connection may have open: far more than any exporter uses, few enough that a flood of empty ones is cheap. */
export const STREAMS_MAX = 1000;

/**
 * What a piece of a body counts as at least. Each arrives as an object of some 250 bytes (measured), however few bytes it
 * brings: a message in pieces of one byte would otherwise take 250 times what it counts as.
 */
export const PIECE_BYTES_MIN = 256;

/**
 * Large bodies inflated at once, on the thread pool whose four threads also write and fsync the log: two leave it the others.
 * More at once would also share the bytes in flight so thinly that none of them comes to its end.
 */
export const INFLATIONS_MAX = 2;

/** HTTP/1.1 header fields, and bytes of all of them together: exporters send ten, in some hundred bytes. */
export const HEADERS_MAX = 100;
export const HEADER_BYTES_MAX = 16 * 1024;

/**
 * What a client may still send over HTTP/1.1 after its request was answered early: what it has on the way before it sees the
 * answer. Over it, the connection is cut; reading on for a client that does not listen costs us half a core.
 */
export const DISCARDED_BYTES_MAX = 16 * 1024 * 1024;

/** Why a request or a connection was refused or cut: the values of the label `reason`. */
export type CutReason =
  /** More evidence waits to be stored than the disk budget has room for. */
  | 'budget'
  /** Too many bytes or requests in flight: over all, or more than this sender's share of them. */
  | 'full'
  | 'share'
  /** Larger than a request may be, as sent or inflated. */
  | 'too_large'
  /** The next bytes did not come. */
  | 'stalled'
  /** Bytes came, but the request was not complete in time. */
  | 'slow'
  /** More than one message in a call that takes one. */
  | 'messages'
  /** The answer was not taken. */
  | 'unread'
  /** Too many connections: over all, or more than this address's share of them. */
  | 'connections'
  /** No HTTP/2 preface, no answer to a ping, no request on a connection that is open. */
  | 'silent'
  /** Not HTTP, or a flood of what is: headers, resets, pings, settings, empty frames. */
  | 'protocol';
