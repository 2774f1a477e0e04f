import type { Clock } from '../core/clock.ts';
import { WireError } from '../otlp/wire.ts';
import { type Arrival, readAccessEvent } from './access-event.ts';
import { isPlain } from './access-fields.ts';
import { type AccessCodec, createAccessCodec, RECORD_PATH, undecodable } from './access-proto.ts';
import type { UnaryAnswer, UnaryMethod } from './grpc-call.ts';
import { badRequest, overLimit, overQuota, unavailable } from './grpc-status.ts';
import * as http from './http-reply.ts';
import { type JsonPiece, readJsonPieces, saysLines } from './json-pieces.ts';
import {
  type Delivery,
  type DeliveryOptions,
  type DeliverySource,
  type GivenItem,
  LogDelivery,
} from './log-delivery.ts';
import type { RejectCode } from './receipt.ts';

export interface AccessServiceOptions extends Omit<DeliveryOptions, 'signal'> {
  readonly clock: Clock;
  readonly codec?: AccessCodec;
}

/** The access API: explicit events over gRPC, and as JSON, NDJSON or protobuf over HTTP. The same event is the same evidence by each. */
export interface AccessService {
  readonly method: UnaryMethod;
  readonly route: http.HttpRoute;
}

const SIGNAL = 'access';

/** The list of events in a JSON request. */
const EVENTS = 'events';

/** Of a call that the guard knows nothing of there is none. */
const NO_ROOM: DeliverySource['room'] = { add: () => undefined, shrinkTo: () => undefined };

export function createAccessService({
  clock,
  codec = createAccessCodec(),
  ...options
}: AccessServiceOptions): AccessService {
  let sequence = 0;
  const arrival = (): Arrival => ({ nowMs: clock.nowMs(), sequence: () => sequence++ });
  const delivery = new LogDelivery({ ...options, signal: SIGNAL });
  const refuse = (reason: RejectCode, message: string) => {
    options.counters.add('rejected', 1, { signal: SIGNAL, reason });
    return { kind: 'invalid', field: 'body', message, offset: 0 } as const;
  };
  const recordProtobuf = (bytes: Buffer, source: DeliverySource): Promise<Delivery> =>
    delivery.deliver(() => {
      const events = split(codec, bytes);
      return typeof events === 'string' ? refuse('undecodable', events) : decodeEvents(codec, events, arrival());
    }, source);
  const recordJson = (bytes: Buffer, contentType: string, source: DeliverySource): Promise<Delivery> =>
    delivery.deliver(() => {
      const given = readJsonPieces(bytes, contentType);
      return given.ok ? readEvents(eventsIn(given.pieces), arrival()) : refuse('not_json', given.message);
    }, source);
  return {
    method: {
      path: RECORD_PATH,
      signal: SIGNAL,
      handle: async (message, { peer, namespace, pass, reservation }) => {
        const from = { transport: 'grpc', sender: 'access_api', peer, namespace, pass, browser: false } as const;
        const source = { ...from, room: reservation ?? NO_ROOM, bytes: message.length };
        return grpcAnswer(codec, await recordProtobuf(message, source));
      },
    },
    route: {
      path: '/v1/access',
      signal: SIGNAL,
      open(request) {
        const { contentType } = request;
        const from = { transport: 'http', sender: 'access_api', ...request } as const;
        const isProtobuf = contentType.startsWith(http.CONTENT_TYPES.protobuf);
        if (!isProtobuf && !isJsonType(contentType)) {
          return http.fail('unsupported_media_type', 'json', CONTENT_TYPE_MESSAGE);
        }
        return async (body) => {
          const source = { ...from, bytes: body.length };
          if (!isProtobuf) return replyOf(await recordJson(body, contentType, source));
          return replyOf(await recordProtobuf(body, source), codec.encodeReceipt);
        };
      },
    },
  };
}

const CONTENT_TYPE_MESSAGE =
  'content-type must be application/json, application/x-ndjson (an event a line), both UTF-8, or application/x-protobuf (a RecordRequest)';

/** curl says of its data that they are a form's, unless it is told otherwise. */
const UNTOLD = /^(?:$|application\/x-www-form-urlencoded\b)/;

function isJsonType(contentType: string): boolean {
  const charset = /;\s*charset\s*=\s*"?([^"\s;]*)/.exec(contentType)?.[1] ?? 'utf-8';
  if (charset !== 'utf-8' && charset !== 'utf8') return false;
  const isJson = /^(?:application|text)\/(?:[\w.-]+\+)?json\b/.test(contentType);
  return isJson || saysLines(contentType) || UNTOLD.test(contentType);
}

function split(codec: AccessCodec, message: Uint8Array): Iterable<Uint8Array> | string {
  try {
    return codec.split(message);
  } catch (thrown) {
    if (!(thrown instanceof WireError)) throw thrown;
    return `the body is no RecordRequest of access.proto: ${thrown.message} (at byte ${thrown.offset})`;
  }
}

function* decodeEvents(codec: AccessCodec, events: Iterable<Uint8Array>, arrival: Arrival): Generator<GivenItem> {
  for (const bytes of events) {
    let event: unknown;
    try {
      event = codec.decode(bytes);
    } catch (thrown) {
      yield { ok: false, problem: { id: '', field: 'event', code: 'undecodable', reason: undecodable(thrown) } };
      continue;
    }
    yield readAccessEvent(event, arrival);
  }
}

/** The events of a request: a document with a list of them, a list, or one. */
function* eventsIn(pieces: Iterable<JsonPiece>): Generator<JsonPiece> {
  for (const piece of pieces) {
    const list = piece.ok && isPlain(piece.value) ? piece.value[EVENTS] : undefined;
    const values = Array.isArray(list) ? list : piece.ok && Array.isArray(piece.value) ? piece.value : undefined;
    if (values === undefined) yield piece;
    else for (const value of values) yield { ok: true, value };
  }
}

function* readEvents(events: Iterable<JsonPiece>, arrival: Arrival): Generator<GivenItem> {
  for (const piece of events) {
    if (piece.ok) yield readAccessEvent(piece.value, arrival);
    else yield { ok: false, problem: { id: '', field: piece.field, code: 'not_json', reason: piece.reason } };
  }
}

function grpcAnswer(codec: AccessCodec, result: Delivery): UnaryAnswer {
  switch (result.kind) {
    case 'receipt':
      return { kind: 'message', message: codec.encodeReceipt(result.receipt) };
    case 'invalid':
      return badRequest(result.field, result.message);
    case 'busy':
      return overLimit(result.limit);
    case 'unavailable':
      return unavailable(result.message, result.retryAfterMs);
    case 'over_quota':
      return overQuota(result.message, result.retryAfterMs);
  }
}

type Receipt = Extract<Delivery, { kind: 'receipt' }>['receipt'];

/** A receipt is an answer of its own: 200 even when nothing was accepted, as OTLP has it for partial success. */
export function replyOf(result: Delivery, encode?: (receipt: Receipt) => Buffer): http.Reply {
  const encoding = encode ? 'protobuf' : 'json';
  switch (result.kind) {
    case 'receipt':
      return http.reply(200, encoding, encode?.(result.receipt) ?? Buffer.from(`${JSON.stringify(result.receipt)}\n`));
    case 'invalid':
      return http.failField(encoding, { field: result.field, description: result.message });
    case 'busy':
      return http.overLimit(encoding, result.limit);
    case 'unavailable':
      return http.unavailable(encoding, result.message, result.retryAfterMs);
    case 'over_quota':
      return http.overQuota(encoding, result.message, result.retryAfterMs);
  }
}
