import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileRules } from '../../src/access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../../src/access/settings.ts';
import type { EvidenceBeyond, LogRecord, Span } from '../../src/core/evidence.ts';
import { bytesOf } from '../../src/core/raw-bytes.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { Settlement } from '../../src/core/settlement.ts';
import { createExamine } from '../../src/enrich/examine.ts';
import { createSettle } from '../../src/enrich/settle.ts';
import { PieceList, type PiecePlace } from '../../src/join/huge-pieces.ts';
import { HugeSelection, type Selection } from '../../src/join/huge-selection.ts';
import { log, span, spanId, TRACE_ID } from '../enrich/evidence.ts';

const rules = compileRules(DEFAULT_ACCESS_SETTINGS);
const examine = createExamine(rules);
const settle = createSettle(rules, { traceUrlTemplate: '' });

type Piece = Span | LogRecord;
const isLog = (piece: Piece) => !('kind' in piece);

/** Puts each piece at a place of its own, three a frame, in this order. */
function select(
  given: readonly Piece[],
  spansMax: number,
  slice = 1_000_000,
  shuffle = (places: PiecePlace[]) => places,
) {
  const places = given.map((piece, index) => ({
    segment: 1 + Math.floor(index / 30),
    offset: 32 + (Math.floor(index / 3) % 10) * 100,
    itemStart: 10 * (index % 3),
    isLog: isLog(piece),
    isNew: true,
  }));
  const keyOf = (place: PiecePlace) => `${place.segment} ${place.offset} ${place.itemStart}`;
  const pieces = new Map(places.map((place, index) => [keyOf(place), given[index] as Piece]));
  const pieceAt = (place: PiecePlace) => pieces.get(keyOf(place)) ?? expect.unreachable();
  const list = new PieceList();
  for (const place of shuffle([...places])) list.add(place);
  const selection = new HugeSelection(list, {
    spansMax,
    examine,
    read: (place) => {
      const piece = pieceAt(place);
      if (piece.scope.name === 'unreadable') throw new Error('unreadable');
      return piece;
    },
  });
  let steps = 1;
  while (!selection.step(slice)) steps++;
  const result = selection.result() as Selection;
  return { ...result, chosen: result.chosen.map(pieceAt), steps };
}

function settleChosen(chosen: readonly Piece[], beyond?: EvidenceBeyond): Settlement {
  const spans = chosen.filter((piece): piece is Span => !isLog(piece));
  const logs = chosen.filter((piece): piece is LogRecord => isLog(piece));
  return settle({ namespace: 'default', traceId: TRACE_ID, spans, logs, ...(beyond && { beyond }) });
}

/** What may not depend on order, slices and repetition. */
function essence({ chosen, beyond }: { chosen: readonly Piece[]; beyond: EvidenceBeyond }) {
  const texts = chosen.map(
    (piece) =>
      `${Buffer.from(bytesOf(piece.raw))} ${piece.note.sender} ${piece.resource.attributes.get('service.name')}`,
  );
  const { counts, ...rest } = beyond;
  const uses = (['traces', 'logs'] as const).map((signal) => ({ ...counts[signal], duplicate: 0 }));
  return { texts: texts.sort(), uses, ...rest };
}

const KINDS = { request: 'server', statement: 'client', step: 'internal', health: 'server' } as const;
const ATTRIBUTES = {
  request: { 'http.request.method': 'GET', 'http.route': '/patients/{id}', 'user.id': 'alice' },
  statement: { 'db.system.name': 'postgresql', 'db.query.text': 'SELECT 1 FROM orders' },
  step: {},
  health: { 'http.request.method': 'GET', 'http.route': '/healthz', 'url.path': '/healthz' },
};
const sender = fc.constantFrom({}, { sender: 'browser', trusted: false }, { sender: 'other' });
const anySpan = fc
  .record({
    id: fc.integer({ min: 1, max: 12 }),
    parent: fc.integer({ min: 0, max: 14 }),
    kind: fc.constantFrom('request', 'statement', 'step', 'step', 'health'),
    start: fc.integer({ min: 0, max: 5 }),
    isFailed: fc.boolean(),
    service: fc.constantFrom('orders', 'billing', 'mail'),
    note: sender,
  })
  .map(({ id, parent, kind, start, isFailed, service, note }) =>
    span({
      ...{ id: `${id}`, parent: parent === 0 ? '' : `${parent}`, name: kind, kind: KINDS[kind], service, note },
      ...{ ms: [start, start + 5], attributes: ATTRIBUTES[kind], status: [isFailed ? 2 : 0] as const },
    }),
  );
const anyLog = fc
  .record({
    on: fc.integer({ min: 0, max: 13 }),
    kind: fc.constantFrom('event', 'line', 'exception'),
    number: fc.integer({ min: 0, max: 2 }),
    service: fc.constantFrom('orders', 'billing'),
    note: sender,
  })
  .map(({ on, kind, number, service, note }) => {
    const where = { ...(on > 0 && { span: `${on}` }), service, note, ms: number };
    if (kind === 'event')
      return log({ ...where, eventName: 'access', attributes: { 'event.action': 'open', 'audit.target.id': 'x' } });
    return log({
      ...where,
      attributes: kind === 'line' ? {} : { 'exception.type': 'Error', 'exception.message': 'no' },
    });
  });
const anyTrace = fc.array(fc.oneof({ weight: 3, arbitrary: anySpan }, { weight: 1, arbitrary: anyLog }), {
  minLength: 1,
  maxLength: 40,
});

describe('the choice among the pieces of a huge trace', () => {
  it('is a function of the set of pieces: not of their order, of slices or of repetition', () => {
    const property = fc.property(
      anyTrace.chain((trace) =>
        fc.tuple(fc.constant(trace), fc.shuffledSubarray([...trace, ...trace], { minLength: 0 })),
      ),
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 50 }),
      fc.boolean(),
      ([trace, more], spansMax, slice, isBackwards) => {
        const plain = select(trace, spansMax);
        const all = [...more, ...trace];
        const other = select(all, spansMax, slice, isBackwards ? (places) => places.reverse() : undefined);
        expect(essence(other)).toEqual(essence(plain));
        expect(other.steps).toBeGreaterThanOrEqual(Math.floor(all.length / slice));
      },
    );
    fc.assert(property, { numRuns: 600 });
  });

  it('leaves the rank as it is, and counts every piece once', () => {
    const property = fc.property(anyTrace, fc.integer({ min: 1, max: 45 }), (trace, spansMax) => {
      const whole = settleChosen(trace);
      const { chosen, beyond } = select(trace, spansMax);
      const part = settleChosen(chosen, beyond);
      expect(chosen.length).toBeLessThanOrEqual(spansMax);
      expect(part.rank).toBe(whole.rank);
      const { used, context, excluded, duplicate } = part.counts;
      expect(used + context + excluded + duplicate).toBe(trace.length);
      expect(duplicate).toBe(whole.counts.duplicate);
      const logs = part.logCounts;
      expect(logs.used + logs.context + logs.excluded + logs.duplicate).toBe(trace.filter(isLog).length);
    });
    fc.assert(property, { numRuns: 600 });
  });

  it('tells of the whole trace what a settle of all of it would tell', () => {
    const property = fc.property(anyTrace, fc.integer({ min: 1, max: 30 }), (trace, spansMax) => {
      const whole = new Map(settleChosen(trace).records.map(({ id, record }) => [id, record]));
      const { chosen, beyond } = select(trace, spansMax);
      const { records } = settleChosen(chosen, beyond);
      const isPartial = beyond.accesses + beyond.ways > 0;
      if (beyond.accesses === 0) expect(records.map(({ id }) => id).sort()).toEqual([...whole.keys()].sort());
      for (const { id, record } of records) {
        const full = whole.get(id);
        if (full === undefined || isPartial) {
          expect(['partial', 'orphan', 'unsampled']).toContain(record.audit.join.state);
          continue;
        }
        const { root, span_count, error_count, services } = record.audit.trace ?? {};
        const { missing_parents, orphans, state } = record.audit.join;
        expect({ root, span_count, services, missing_parents, orphans, state }).toEqual({
          root: full.audit.trace?.root,
          span_count: full.audit.trace?.span_count,
          services: full.audit.trace?.services,
          missing_parents: full.audit.join.missing_parents,
          orphans: full.audit.join.orphans,
          state: full.audit.join.state,
        });
        expect(error_count).toBe(full.audit.trace?.error_count);
        // A failure's path leads on to what explains it, which may be left out.
        const steps = ({ audit }: AuditRecord) => audit.path?.map((step) => step.span_id);
        if (record.event.outcome !== 'failure') expect(steps(record)).toEqual(steps(full));
        expect(record.transaction).toEqual(full.transaction);
        expect([record.audit.entry, record.audit.entry_id]).toEqual([full.audit.entry, full.audit.entry_id]);
      }
    });
    fc.assert(property, { numRuns: 1500 });
  });

  it('of all that fits makes the records that a settle of everything makes', () => {
    const property = fc.property(anyTrace, (trace) => {
      const { chosen, beyond } = select([...trace, ...trace], 1000);
      const records = ({ records }: Settlement) => records.map(({ id, record }) => [id, record]);
      expect(records(settleChosen(chosen, beyond))).toEqual(records(settleChosen(trace)));
    });
    fc.assert(property, { numRuns: 300 });
  });
});

const chain = (length: number, from = 1, top = '') =>
  Array.from({ length }, (_, index) =>
    span({ id: `${from + index}`, parent: index === 0 ? top : `${from + index - 1}` }),
  );
const request = (id: string, parent: string, more = {}) =>
  span({ id, parent, name: 'GET', kind: 'server', attributes: ATTRIBUTES.request, ...more });
const idsOf = (chosen: readonly Piece[]) => chosen.map((piece) => piece.spanId).sort();

describe('what is chosen first', () => {
  it('every access, then what leads to its root, then the smallest ids', () => {
    const trace = [...chain(50), request('900', '40'), request('800', '20'), ...chain(30, 100)];
    const ids = (numbers: number[]) => numbers.map((number) => spanId(`${number}`)).sort();
    expect(idsOf(select(trace, 3).chosen)).toEqual(ids([1, 800, 900]));
    const way = Array.from({ length: 40 }, (_, index) => index + 1);
    expect(idsOf(select(trace, 42).chosen)).toEqual(ids([...way, 800, 900]));
    expect(idsOf(select(trace, 45).chosen)).toEqual(ids([...way, 800, 900, 41, 42, 43]));
  });

  it('entries before the accesses inside them, the smallest ids of each', () => {
    const trace = [...chain(2), ...[6, 5, 4].flatMap((id) => [request(`${id}0`, '2'), request(`${id}1`, `${id}0`)])];
    expect(idsOf(select(trace, 3).chosen)).toEqual(['1', '40', '50'].map(spanId));
    expect(idsOf(select(trace, 5).chosen)).toEqual(['1', '40', '41', '50', '60'].map(spanId));
    const { beyond } = select(trace, 5);
    expect(beyond).toMatchObject({ accesses: 2, spans: 3 });
  });

  it('nobody hides accesses behind many of his own unless he is trusted', () => {
    const others = Array.from({ length: 40 }, (_, index) =>
      request(`${index + 1}`, '', { note: { sender: 'browser', trusted: false } }),
    );
    const { chosen } = select([...others, request('900', '901'), span({ id: '901' })], 10);
    expect(idsOf(chosen)).toContain(spanId('900'));
    expect(idsOf(chosen)).toContain(spanId('901'));
  });

  it('records lead over spans that were left out, to the entry and the root', () => {
    const trace = [request('1', ''), ...chain(60, 100, '1'), request('5000', '159'), ...chain(20, 200)];
    const { chosen, beyond } = select(trace, 4);
    const { records } = settleChosen(chosen, beyond);
    const inner = records.find(({ record }) => record.span?.id === spanId('5000'))?.record;
    expect(inner?.audit).toMatchObject({
      entry: false,
      entry_action: 'GET',
      join: { spans: 4 },
      trace: { span_count: 82 },
    });
    expect(inner?.transaction?.id).toBe(spanId('1'));
    expect(inner?.parent?.id).toBe(spanId('159'));
  });

  it('pieces that cannot be read are told, and the rest is settled', () => {
    const broken = { ...span({ id: '7' }), scope: { name: 'unreadable', version: '' } };
    const { chosen, unreadable, failure } = select([...chain(3), broken], 10);
    expect([chosen.length, unreadable.count, String(failure)]).toEqual([3, 1, 'Error: unreadable']);
  });
});
