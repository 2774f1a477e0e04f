import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseTimestamp, TIMESTAMP_NS_MAX } from '../../src/core/clock.ts';
import { FormedRecord, HEAD, RecordChunk } from '../../src/core/formed-record.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { LATE_FIELDS, type RecordWrite } from '../../src/core/settlement.ts';
import type { Engine } from '../../src/detect/engine.ts';
import { WrittenSubject } from '../../src/detect/subject.ts';
import { engineOf, NOON_MS, recordOf, type Short } from './world.ts';

/** Each kind, with late fields at each place where a rule may name one. */
const RULES = `
- { id: count, name: Count, type: threshold, severity: low, query: 'event.outcome: failure', group_by: user.id, window: 60s, threshold: { value: 2 }, reason: '\${message}' }
- { id: spread, name: Spread, type: threshold, severity: low, query: '*', group_by: user.id, window: 90s, threshold: { cardinality: { field: audit.target.id, value: 2 } } }
- { id: after, name: After, type: threshold, severity: low, query: 'event.outcome: failure', group_by: user.id, window: 60s, threshold: { value: 1 }, then: 'event.outcome: success and event.duration < 40ms' }
- { id: slow, name: Slow, type: query, severity: low, query: 'event.duration > 50ms or user.id: carol', group_by: user.id, suppress: 60s, reason: '\${message} \${event.duration}' }
- { id: each, name: Each, type: query, severity: low, query: 'audit.decision: deny and not message: refused', reason: '\${trace.id}' }
- { id: night, name: Night, type: query, severity: low, query: 'audit.decision: deny', hours: { outside: 'Mon-Fri 06:00-12:05', timezone: UTC }, group_by: user.id, suppress: 30s }
- { id: traces, name: Traces, type: threshold, severity: low, query: '*', inner: true, group_by: trace.id, groups_max: 50, window: 60s, threshold: { value: 2 } }
- { id: country, name: Country, type: new_terms, severity: low, query: '*', group_by: user.id, new_terms: { fields: source.geo.country_iso_code, history: 1d } }
- { id: usual, name: Usual, type: baseline, severity: low, query: '*', group_by: audit.target.id, baseline: { of: latency, interval: 1m, deviations: 1, min_volume: 1, warm_up: 0s } }
- { id: failing, name: Failing, type: baseline, severity: low, query: '*', group_by: user.id, baseline: { of: failures, interval: 1m, deviations: 1, min_volume: 1, warm_up: 0s } }
`;

const short: fc.Arbitrary<Short> = fc.record({
  at: fc.integer({ min: 0, max: 900 }),
  user: fc.constantFrom('alice', 'bob', 'carol'),
  outcome: fc.constantFrom('success' as const, 'failure' as const),
  decision: fc.constantFrom('allow' as const, 'deny' as const),
  target: fc.constantFrom('a', 'b', 'c'),
  country: fc.constantFrom('DE', 'FR'),
  entry: fc.constantFrom(true, true, false),
  durationMs: fc.integer({ min: 1, max: 100 }),
  revision: fc.constantFrom(1, 1, 1, 1, 2),
  ingestedAt: fc.constantFrom(0, 900),
});
const records = fc.array(short, { maxLength: 50 }).map((all) =>
  // Some come again, with the same id and other contents.
  all.map((one, index): AuditRecord => recordOf({ ...one, id: `r${index % 40}` })),
);

function remove(node: unknown, [key = '', ...rest]: readonly string[]): void {
  if (typeof node !== 'object' || node === null) return;
  if (rest.length === 0) delete (node as Record<string, unknown>)[key];
  else remove((node as Record<string, unknown>)[key], rest);
}

/** What a write may tell by itself. */
const TOLD = ['durationNs', 'traceId', 'ingestedMs'] as const;
type Told = (typeof TOLD)[number];

/** As the settle makes them: one object for what differs in late fields only. `tells`: what else is known without the record. */
function writer(tells: readonly Told[]): (record: AuditRecord) => RecordWrite {
  const forms = new Map<string, object>();
  return (record) => {
    const same = structuredClone(record);
    for (const name of LATE_FIELDS) remove(same, name.split('.'));
    const key = JSON.stringify(same);
    const form = forms.get(key) ?? {};
    forms.set(key, form);
    const early = {
      durationNs: record.event.duration,
      traceId: record.trace?.id ?? '',
      ingestedMs: Date.parse(record.event.ingested),
    };
    return {
      ...{ id: record.event.id, namespace: 'default', timestampNs: parseTimestamp(record['@timestamp']) ?? 0n },
      ...{ rank: 1n, record, form },
      ...Object.fromEntries(tells.map((name) => [name, early[name]])),
    };
  };
}

function outcomeOf(engine: Engine, all: readonly RecordWrite[]): unknown {
  const told = [];
  for (const write of all) {
    engine.observe(new WrittenSubject(write));
    told.push(
      engine.takeChanges(),
      engine.alerts(NOON_MS).map(({ id, count, reason }) => [id, count, reason]),
    );
    engine.forgetAlerts();
  }
  return [told, engine.statuses(), [...engine.snapshot()]];
}

/** Plain writes, looked at while they are objects, some ahead of their turn; from then on nobody may ask for the object. */
function lookedAt(engine: Engine, writes: readonly RecordWrite[], ahead: number): readonly RecordWrite[] {
  const seen: RecordWrite['seen'][] = [];
  return writes.map((write, at) => ({
    ...write,
    get seen() {
      while (seen.length <= Math.min(at + ahead, writes.length - 1)) {
        seen.push(engine.lookAt(new WrittenSubject(writes[seen.length] as RecordWrite)));
      }
      return seen[at];
    },
    get record() {
      // A revision is read again: rules take it for another record.
      if (write.record.audit.revision > 1) return write.record;
      const { audit } = write.record;
      return { audit: { revision: audit.revision } } as AuditRecord;
    },
  }));
}

describe('records that rules look at before they are texts', () => {
  it('change the same and raise the same as those that stay objects', () => {
    fc.assert(
      fc.property(records, fc.integer({ min: 0, max: 9 }), (all, ahead) => {
        const writes = all.map(writer(TOLD)).map((write): RecordWrite => ({ ...write, form: undefined }));
        const engine = engineOf(RULES);
        const early = lookedAt(engine, writes, ahead);
        expect(outcomeOf(engine, early)).toEqual(outcomeOf(engineOf(RULES), writes));
      }),
      { numRuns: 150 },
    );
  });
});

describe('records with a form', () => {
  it('change the same and raise the same as without one', () => {
    const tells = fc.subarray([...TOLD]);
    fc.assert(
      fc.property(records, tells, (all, names) => {
        const writes = all.map(writer(names));
        const plain = writes.map(
          (write): RecordWrite => ({
            ...write,
            ...{ form: undefined, durationNs: undefined, traceId: undefined, ingestedMs: undefined },
          }),
        );
        expect(outcomeOf(engineOf(RULES), writes)).toEqual(outcomeOf(engineOf(RULES), plain));
      }),
      { numRuns: 150 },
    );
  });

  it('are not looked into when nothing of their form matches a rule', () => {
    const engine = engineOf(`
- { id: denied, name: Denied, type: query, severity: low, query: 'audit.decision: deny and event.duration > 1ms', group_by: user.id, suppress: 60s }
- { id: slow, name: Slow, type: baseline, severity: low, query: 'event.outcome: success', group_by: user.id, baseline: { of: latency, interval: 1m, deviations: 1, min_volume: 1, warm_up: 0s } }
`);
    const write = writer(TOLD);
    let asked = 0;
    for (let at = 0; at < 20; at++) {
      const made = write(recordOf({ at, durationMs: at + 1 }));
      const { record } = made;
      engine.observe(
        new WrittenSubject({
          ...made,
          get record() {
            asked++;
            return record;
          },
        }),
      );
    }
    expect(asked).toBeLessThan(5);
    expect(engine.statuses().map(({ matches }) => matches)).toEqual([0, 20]);
  });
});

it('reads the time of what a form gave as of any other write', () => {
  const chunk = new RecordChunk(new ArrayBuffer(128));
  const record = recordOf({ at: 0 });
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: TIMESTAMP_NS_MAX }), fc.constantFrom(1n, 1_000n, 1_000_000n), (ns, unit) => {
      const timestampNs = ns - (ns % unit);
      chunk.words[HEAD.timeHigh] = Number(timestampNs >> 32n);
      chunk.words[HEAD.timeLow] = Number(BigInt.asUintN(32, timestampNs));
      const formed = new WrittenSubject(new FormedRecord(chunk, 0, {}, 'default'));
      const plain = new WrittenSubject({ id: 'r', namespace: 'default', timestampNs, rank: 1n, record });
      expect(formed.timeMs).toBe(plain.timeMs);
    }),
    { numRuns: 1000 },
  );
});
