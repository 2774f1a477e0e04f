import type { Clock } from '../core/clock.ts';
import type { Counters } from '../core/metrics.ts';
import { type FieldNote, isPlain, kindOf } from './access-fields.ts';
import { replyOf } from './access-service.ts';
import { checkSignature, type SignatureSettings } from './events-signature.ts';
import * as http from './http-reply.ts';
import { type JsonPiece, readJsonPieces } from './json-pieces.ts';
import { type DeliveryOptions, type GivenItem, LogDelivery } from './log-delivery.ts';

export interface EventsServiceOptions extends Omit<DeliveryOptions, 'signal'> {
  readonly clock: Clock;
  readonly counters: Counters;
  /** The presets and the user's own mappings. */
  readonly presets: readonly string[];
  /** Why no mapping of a preset takes an item; undefined when one does. */
  readonly misfit?: (preset: string, item: Readonly<Record<string, unknown>>) => string | undefined;
  /** By preset; a sender whose preset has none is trusted by its address. */
  readonly signatures: ReadonlyMap<string, SignatureSettings>;
}

const PATH = '/v1/events/';
const SIGNAL = 'events';

/**
 * Longest item, in characters of JSON: what mappings read of a body ends there, too. Audit events of Kubernetes with whole objects
 * in them have some 100 kB.
 */
const ITEM_CHARS_MAX = 1024 * 1024;

/** Lists in which systems send several: Kubernetes' EventList, CloudTrail's files, and what others do alike. */
const LISTS = ['items', 'Records', 'events', 'logEvents'] as const;

/**
 * Webhooks: what other systems send as JSON, each item one log record with the item as its body, for the mapping of that name to
 * read when it is settled. The same item is the same evidence, however it was batched.
 */
export function createEventsRoute(options: EventsServiceOptions): http.HttpRoute {
  const { counters, presets, signatures, clock, misfit } = options;
  const noteMisfit = (preset: string, item: Readonly<Record<string, unknown>>): readonly FieldNote[] => {
    const reason = misfit?.(preset, item);
    if (reason === undefined) return [];
    counters.add('unmapped', 1, { preset });
    return [{ field: 'event', reason: `no mapping of "${preset}" takes it, so it is kept as context only: ${reason}` }];
  };
  const delivery = new LogDelivery({ ...options, signal: SIGNAL });
  const refuse = (reason: string): void => counters.add('rejected', 1, { signal: SIGNAL, reason });
  const presetOf = (path: string): string => path.slice(PATH.length).replace(/\/$/, '');
  return {
    path: PATH,
    signal: SIGNAL,
    presetOf,
    isSigned: (path) => signatures.has(presetOf(path)),
    open(request) {
      const preset = presetOf(request.path);
      if (!presets.includes(preset)) {
        refuse('unknown_preset');
        const known = presets.join(', ');
        return http.fail('not_found', 'json', `there is no preset "${preset.slice(0, 100)}"; there are ${known}`);
      }
      return async (body) => {
        // A token of ours is proof as well.
        const settings = request.pass ? undefined : signatures.get(preset);
        const check = settings && checkSignature(settings, request.headers, body, clock.nowMs());
        if (check?.ok === false) {
          refuse(check.code);
          return http.fail('unauthenticated', 'json', check.reason, { 'www-authenticate': 'Bearer' });
        }
        const from = { transport: 'http', sender: 'webhook', isProven: check?.ok === true, ...request } as const;
        const read = () => {
          const given = readJsonPieces(body, request.contentType);
          if (given.ok) return itemsOf(given.pieces, preset, noteMisfit);
          refuse('not_json');
          return { kind: 'invalid', field: 'body', message: given.message, offset: 0 } as const;
        };
        return replyOf(await delivery.deliver(read, { ...from, bytes: body.length }));
      };
    },
  };
}

type NoteMisfit = (preset: string, item: Readonly<Record<string, unknown>>) => readonly FieldNote[];

/** The items of a request, taken out of the lists that they come in. */
function* itemsOf(pieces: Iterable<JsonPiece>, preset: string, noteMisfit: NoteMisfit): Generator<GivenItem> {
  const attributes = new Map([
    ['spantrail.preset', preset],
    ['spantrail.via', 'webhook'],
  ]);
  for (const piece of pieces) {
    if (!piece.ok) {
      yield { ok: false, problem: { id: '', field: piece.field, code: 'not_json', reason: piece.reason } };
      continue;
    }
    for (const value of unwrap(piece.value)) {
      const item = itemOf(value, attributes);
      yield item.ok && isPlain(value) ? { ...item, notes: noteMisfit(preset, value) } : item;
    }
  }
}

/** The events in what a system sends at once. */
export function unwrap(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value.flatMap((entry: unknown) => (isPlain(entry) ? unwrap(entry) : [entry]));
  if (!isPlain(value)) return [value];
  // Amazon EventBridge puts a record of CloudTrail into `detail`.
  const { detail } = value;
  if (isPlain(detail) && 'detail-type' in value && 'eventVersion' in detail) return [detail];
  const name = LISTS.find((each) => Array.isArray(value[each]));
  if (name === undefined) return [value];
  // An event may have a list of that name among its own fields; an envelope has little beside it.
  const isEnvelope = name === 'Records' || String(value['kind']).endsWith('List') || Object.keys(value).length === 1;
  const list = value[name];
  return isEnvelope && Array.isArray(list) ? list : [value];
}

function itemOf(value: unknown, attributes: ReadonlyMap<string, string>): GivenItem {
  if (!isPlain(value)) {
    const reason = `must be an object, not ${kindOf(value)}`;
    return { ok: false, problem: { id: '', field: 'event', code: 'invalid', reason } };
  }
  const body = textOf(value);
  if (body === undefined) {
    const reason = 'is nested too deep to be read';
    return { ok: false, problem: { id: '', field: 'event', code: 'invalid', reason } };
  }
  if (body.length > ITEM_CHARS_MAX) {
    const reason = `has ${body.length} characters; at most ${ITEM_CHARS_MAX}${largestField(value)}`;
    return { ok: false, problem: { id: '', field: 'event', code: 'too_large', reason } };
  }
  const item = { service: '', timeNs: 0n, traceId: '', spanId: '', eventName: '', body, attributes };
  return { ok: true, item, id: '', notes: [] };
}

/** The item as JSON without spaces: the same however it was laid out. Undefined when it is nested beyond what can be written. */
function textOf(value: object): string | undefined {
  try {
    return JSON.stringify(value).toWellFormed();
  } catch (thrown) {
    if (thrown instanceof RangeError) return undefined;
    throw thrown;
  }
}

function largestField(value: Readonly<Record<string, unknown>>): string {
  let [largest, most] = ['', 0];
  for (const [key, field] of Object.entries(value)) {
    const { length } = JSON.stringify(field) ?? '';
    if (length > most) [largest, most] = [key, length];
  }
  return `; most of it is in "${largest.slice(0, 100)}"`;
}
