import { constants, type IncomingHttpHeaders, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { ClientCertificate } from '../auth/client-certificate.ts';
import type { Counters } from '../core/metrics.ts';
import { BUDGET_MESSAGE, type Budget, FAULT_MESSAGE, NAMESPACE_HEADER, RETRY_AFTER_MS } from './admission.ts';
import type { Limit } from './fair-share.ts';
import {
  badRequest,
  final,
  notLetIn,
  overLimit,
  type Refusal,
  STATUS,
  type StatusName,
  unavailable,
} from './grpc-status.ts';
import type { Connection, Reservation } from './in-flight.ts';
import { CONTENT_ENCODINGS, inflate, looksCompressed } from './inflate.ts';
import { type CutReason, PIECE_BYTES_MIN } from './limits.ts';
import type { WayIn } from './listen.ts';
import type { Gate, Pass } from './senders.ts';

/** The path is `/package.Service/Method`; requests are counted as the signal. */
export interface UnaryMethod extends WayIn {
  readonly handle: (message: Buffer, call: UnaryCall) => Promise<UnaryAnswer>;
}

/** What is known of a call beside its message. */
export interface UnaryCall {
  /** IP address. */
  readonly peer: string;
  /** As the sender gave it, or as its token has it. */
  readonly namespace: string | undefined;
  readonly pass: Pass | undefined;
  readonly reservation: Reservation | undefined;
}

export type UnaryAnswer = { readonly kind: 'message'; readonly message: Buffer } | Refusal;

export interface CallLimits {
  readonly budget: Budget;
  readonly counters: Counters;
  readonly requestBytesMax: number;
  /** How long the next bytes may take, in either direction. */
  readonly stallMs: number;
  /** How long a request may take to arrive. */
  readonly requestMs: number;
  /** Asked before a byte of the message is read. */
  readonly gate: Gate;
  /** Told of a fault of ours in a handler: the sender only hears "unavailable". */
  readonly onFault: (thrown: unknown) => void;
}

/** Where a call comes from. */
export interface Caller {
  /** IP address. */
  readonly peer: string;
  readonly connection: Connection;
  readonly certificate: () => ClientCertificate | undefined;
}

/** In front of a message: is it compressed, and how long is it (gRPC over HTTP/2, "Length-Prefixed-Message"). */
const PREFIX_BYTES = 5;
const COMPRESSED = 1;

/** `reason`: for which limit, when it is one of ours. */
type Refused = Refusal & { readonly reason?: CutReason };

/** What grpc-js answers with, too. */
const HEADERS = {
  ':status': 200,
  'content-type': 'application/grpc+proto',
  'grpc-accept-encoding': `identity,${CONTENT_ENCODINGS.join(',')}`,
};
const RESPOND = { waitForTrailers: true };
const OK_TRAILERS = { 'grpc-status': STATUS.OK, 'grpc-message': 'OK' };
const EMPTY_MESSAGE = Buffer.alloc(PREFIX_BYTES);

/** The status that gRPC names for a call with more messages than its method takes, or with none. */
const ONE_MESSAGE = final('UNIMPLEMENTED', 'a call takes one message');

/** grpc-timeout, in milliseconds. */
const TIMEOUT = /^(\d{1,8})([HMSmun])$/;
const TIMEOUT_UNITS_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };
/** Of a timer. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

/**
 * One unary call, from its headers to its end: refuses it unread when there is no room for it, counts what is in flight while it
 * is read, cuts stalled and slow senders and readers, inflates, has the method handle it, answers, counts the status that was sent.
 *
 * Written on HTTP/2 itself: a general library costs more for each message than all that is done with it here.
 */
export class Call {
  readonly #stream: ServerHttp2Stream;
  readonly #method: UnaryMethod | undefined;
  readonly #limits: CallLimits;
  readonly #caller: Caller;
  readonly #encoding: string;
  #reservation: Reservation | undefined;
  #pass: Pass | undefined;
  #namespace: string | undefined;
  #deadline: NodeJS.Timeout | undefined;
  readonly #begunMs = performance.now();
  #heardMs = this.#begunMs;
  /** The prefix as far as it is there; then the message, and how much of it is. */
  readonly #prefix = Buffer.allocUnsafe(PREFIX_BYTES);
  #message: Buffer | undefined;
  #bytes = 0;
  #hasEnded = false;
  #isAnswered = false;
  #sent: StatusName = 'CANCELLED';

  constructor(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    method: UnaryMethod | undefined,
    caller: Caller,
    limits: CallLimits,
  ) {
    this.#stream = stream;
    this.#method = method;
    this.#caller = caller;
    this.#limits = limits;
    this.#encoding = String(headers['grpc-encoding'] ?? 'identity');
    stream.on('data', (chunk: Buffer) => this.#take(chunk));
    stream.once('end', () => this.#end());
    // Whatever breaks a stream closes it.
    stream.on('error', () => undefined);
    if (!headers['content-type']?.startsWith('application/grpc')) this.#respond({ ':status': 415 });
    else if (method) this.#refuse(this.#begin(method, headers));
    else this.#refuse(final('UNIMPLEMENTED', `The server does not implement the method ${headers[':path']}`));
  }

  /** The last event of its stream. */
  closed(): void {
    clearTimeout(this.#deadline);
    this.#reservation?.release();
    const signal = this.#method?.signal ?? 'other';
    this.#limits.counters.add('requests', 1, { transport: 'grpc', signal, status: this.#sent });
  }

  /** Neither a sender nor a reader may keep a call for longer than it takes; only we may, while the disk is slow. */
  checkTimes(nowMs: number): void {
    const { stallMs, requestMs } = this.#limits;
    const isQuiet = nowMs - this.#heardMs >= stallMs;
    if (this.#isAnswered) {
      if (!isQuiet) return;
      const isRead = this.#stream.writableFinished;
      if (!isRead) this.#cut('unread');
      this.#stream.close(isRead ? constants.NGHTTP2_NO_ERROR : constants.NGHTTP2_CANCEL);
    } else if (this.#hasEnded) return;
    else if (isQuiet) this.#endUnread('stalled', 'the request stalled');
    else if (nowMs - this.#begunMs >= requestMs) this.#endUnread('slow', 'the request took too long to arrive');
  }

  #endUnread(reason: CutReason, message: string): void {
    this.#refuse({ ...unavailable(message, RETRY_AFTER_MS), reason });
    this.#stream.close(constants.NGHTTP2_NO_ERROR);
  }

  /** What it is refused for before any of its message is read. */
  #begin(method: UnaryMethod, headers: IncomingHttpHeaders): Refused | undefined {
    const { budget, gate } = this.#limits;
    const { refuse, retryAfterMs } = budget();
    if (refuse) return { ...unavailable(BUDGET_MESSAGE, retryAfterMs), reason: 'budget' };
    const reservation = this.#caller.connection.begin();
    if (typeof reservation === 'string') return { ...overLimit(reservation), reason: reservation };
    this.#reservation = reservation;
    const authorization = headers.authorization;
    // A header that is there twice reads as one with a comma.
    const namespace = headers[NAMESPACE_HEADER]?.toString().replace(/,.*$/s, '');
    const certificate = this.#caller.certificate();
    const entrance = gate({ credentials: { authorization, certificate }, signal: method.signal, namespace });
    if (!entrance.isOpen) return notLetIn(entrance);
    this.#pass = entrance.pass;
    this.#namespace = entrance.namespace;
    return this.#setDeadline(headers['grpc-timeout']?.toString());
  }

  #setDeadline(text: string | undefined): Refused | undefined {
    if (text === undefined) return undefined;
    const [, count, unit = ''] = TIMEOUT.exec(text) ?? [];
    if (count === undefined) return final('INTERNAL', `grpc-timeout "${text}" is not a time`);
    const timeoutMs = Number(count) * (TIMEOUT_UNITS_MS[unit] ?? 0);
    if (timeoutMs > TIMEOUT_MS_MAX) return undefined;
    const over = final('DEADLINE_EXCEEDED', 'Deadline exceeded');
    this.#deadline = setTimeout(() => this.#refuse(over), timeoutMs).unref();
    return undefined;
  }

  #take(chunk: Buffer): void {
    this.#heardMs = performance.now();
    if (!this.#isAnswered) this.#refuse(this.#read(chunk));
    // Answered before it ended: the rest is not wanted.
    if (this.#isAnswered) this.#stream.close(constants.NGHTTP2_NO_ERROR);
  }

  /** Takes room for the message when its prefix says how long it is, and stops what is longer. */
  #read(chunk: Buffer): Refused | undefined {
    const reservation = this.#reservation as Reservation;
    const before = this.#bytes;
    this.#bytes += chunk.length;
    let limit: Limit | undefined;
    if (before < PREFIX_BYTES) {
      chunk.copy(this.#prefix, before, 0, PREFIX_BYTES - before);
      if (this.#bytes >= PREFIX_BYTES) {
        const messageBytes = this.#prefix.readUInt32BE(1);
        const max = this.#limits.requestBytesMax;
        if (messageBytes > max) return tooLarge(messageBytes, max);
        limit = reservation.expect(messageBytes + PREFIX_BYTES);
        // It takes memory only as it is filled.
        if (!limit) this.#message = Buffer.allocUnsafe(messageBytes);
      }
    }
    const message = this.#message;
    if (message) {
      if (this.#bytes > message.length + PREFIX_BYTES) return { ...ONE_MESSAGE, reason: 'messages' };
      if (before < PREFIX_BYTES) chunk.copy(message, 0, PREFIX_BYTES - before);
      else chunk.copy(message, before - PREFIX_BYTES);
    }
    limit ??= reservation.add(Math.max(chunk.length, PIECE_BYTES_MIN));
    return limit && { ...overLimit(limit), reason: limit };
  }

  #end(): void {
    this.#hasEnded = true;
    const message = this.#message;
    if (this.#isAnswered) return;
    if (!message || this.#bytes !== message.length + PREFIX_BYTES) this.#refuse(ONE_MESSAGE);
    else {
      this.#message = undefined;
      this.#reservation?.shrinkTo(this.#bytes);
      if (this.#prefix[0] !== COMPRESSED) this.#handle(message);
      else if (this.#encoding !== 'identity' && !CONTENT_ENCODINGS.includes(this.#encoding)) {
        this.#refuse(final('UNIMPLEMENTED', `messages in ${this.#encoding} cannot be read here`));
      } else if (!looksCompressed(message, this.#encoding)) this.#handle(message);
      else void this.#inflate(message);
    }
  }

  async #inflate(message: Buffer): Promise<void> {
    const max = this.#limits.requestBytesMax;
    const result = await inflate(message, this.#encoding, max, this.#reservation as Reservation);
    if (result.kind === 'inflated') this.#handle(result.payload);
    else if (result.kind === 'too_large') this.#refuse(inflatesTooLarge(max));
    else if (result.kind === 'busy') this.#refuse({ ...overLimit(result.limit), reason: result.limit });
    else this.#refuse(badRequest('body', result.message));
  }

  #handle(message: Buffer): void {
    if (this.#isAnswered || !this.#method) return;
    const reservation = this.#reservation;
    const { peer } = this.#caller;
    const call = { peer, namespace: this.#namespace, pass: this.#pass, reservation };
    const work = this.#method.handle(message, call);
    // Clients that give up while the disk is slow send again: what they gave up on still takes its memory.
    reservation?.holdUntil(work);
    work.then(
      (answer) => (answer.kind === 'message' ? this.#acknowledge(answer.message) : this.#refuse(answer)),
      (thrown) => {
        // A fault of ours must not cost the sender's data: clients drop what is answered with UNKNOWN or INTERNAL.
        this.#limits.onFault(thrown);
        this.#refuse(unavailable(FAULT_MESSAGE, RETRY_AFTER_MS));
      },
    );
  }

  #acknowledge(message: Buffer): void {
    const stream = this.#stream;
    if (this.#isAnswered || stream.destroyed || stream.closed) return;
    this.#isAnswered = true;
    this.#heardMs = performance.now();
    stream.respond(HEADERS, RESPOND);
    stream.once('wantTrailers', () => {
      stream.sendTrailers(OK_TRAILERS);
      this.#sent = 'OK';
    });
    stream.end(message.length === 0 ? EMPTY_MESSAGE : withPrefix(message));
  }

  #refuse(answer: Refused | undefined): void {
    if (!answer || this.#isAnswered) return;
    const { status, message, details, reason } = answer;
    this.#reservation?.release();
    if (this.#stream.destroyed || this.#stream.closed) return;
    if (reason) this.#cut(reason);
    this.#sent = status;
    const headers = { ...HEADERS, 'grpc-status': STATUS[status], 'grpc-message': encodeURI(message.toWellFormed()) };
    this.#respond(details === undefined ? headers : { ...headers, 'grpc-status-details-bin': details });
  }

  /** Headers alone, and nothing after them. */
  #respond(headers: OutgoingHttpHeaders): void {
    this.#isAnswered = true;
    this.#message = undefined;
    this.#heardMs = performance.now();
    this.#stream.respond(headers, { endStream: true });
  }

  #cut(reason: CutReason): void {
    this.#limits.counters.add('cut', 1, { transport: 'grpc', reason });
  }
}

/** Without RetryInfo, which tells clients not to retry. */
function tooLarge(bytes: number, bytesMax: number): Refused {
  const message = `the message is larger than max (${bytes} vs. ${bytesMax}); send smaller batches`;
  return { ...final('RESOURCE_EXHAUSTED', message), reason: 'too_large' };
}

function inflatesTooLarge(bytesMax: number): Refused {
  const message = `the request inflates to more than ${bytesMax} bytes; send smaller batches`;
  return { ...final('RESOURCE_EXHAUSTED', message), reason: 'too_large' };
}

function withPrefix(message: Buffer): Buffer {
  const framed = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  message.copy(framed, PREFIX_BYTES);
  return framed;
}
