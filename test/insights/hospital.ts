import type { Alert } from '../../src/core/alert.ts';
import { formatTimestamp, msToNs } from '../../src/core/clock.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import type { Query } from '../../src/query/ast.ts';
import { parseQuery } from '../../src/query/parse.ts';
import { makeRecord, type Overrides, toWrite } from '../fixtures/records.ts';

/** Two March days of a small hospital. What was used before them was used in February. */
export const DAY_MS = 86_400_000;
export const FROM_MS = Date.UTC(2026, 2, 10);
export const TO_MS = FROM_MS + 2 * DAY_MS;

export const HOSPITAL = 'hospital';

export function parsed(text: string): Query {
  const result = parseQuery(text, { nowMs: 0 });
  if (!result.ok) throw new Error(`${text}: ${result.message}`);
  return result.query;
}

type Part = Overrides<AuditRecord>;

const ROLES: Readonly<Record<string, readonly string[] | undefined>> = {
  nina: ['nurse'],
  dora: ['doctor', 'researcher'],
  carl: ['clerk'],
  batch: undefined,
};

const STATEMENTS = ['SELECT name FROM patients WHERE id = $1', 'SELECT text FROM notes WHERE patient_id = $1'];

/** Always the same numbers, from 0 to less than 1. */
function chance(): () => number {
  let state = 42;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state / 2_147_483_648;
  };
}

/**
 * Some nine hundred records: requests of four actors with the checks that they made, the statements below them, and how near its
 * limit the pool of connections was. The more checks a minute, the slower its statements.
 */
export function hospital(namespace = HOSPITAL): RecordWrite[] {
  const random = chance();
  const writes: RecordWrite[] = [];
  const add = (atMs: number, part: Part) => {
    const id = (writes.length + 1).toString(16).padStart(32, '0');
    const merged = { ...part, event: { ...part.event, id } };
    const at = { '@timestamp': formatTimestamp(msToNs(atMs) + BigInt(writes.length)), data_stream: { namespace } };
    writes.push(toWrite(makeRecord({ ...merged, ...at })));
  };
  for (const atMs of [FROM_MS - 20 * DAY_MS, FROM_MS - 3 * DAY_MS]) {
    add(atMs, request('nina', 'archive GET /old/:id', 'old/1', 'patients:archive', true, 10_000_000));
  }
  for (let minute = 0; minute < 120; minute++) {
    const startMs = FROM_MS + 8 * 3_600_000 + minute * 60_000;
    const busy = Math.floor(random() * 6);
    const pressed = busy >= 4;
    for (let number = 0; number < 2 + busy; number++) {
      const who = Object.keys(ROLES)[Math.floor(random() * 4)] ?? 'nina';
      const patient = Math.floor(random() * 9);
      const writing = random() < 0.3;
      const granted = !(who === 'carl' && writing) && !(who === 'batch');
      const duration = 5_000_000 + Math.floor(random() * 40_000_000) + (writing ? 200_000_000 : 0);
      const target = writing ? 'gateway PUT /patients/:id/ward' : 'gateway GET /patients/:id';
      const permission = writing ? 'patients:write' : 'patients:read';
      const base = request(who, target, `patients/${patient}`, permission, granted, duration);
      const failed = granted && random() < (pressed ? 0.3 : 0.02);
      add(startMs + number * 1000, {
        ...base,
        event: { ...base.event, ...(failed && { outcome: 'failure' as const }) },
        ...(failed && { error: { type: 'PoolExhausted' } }),
        audit: { ...base.audit, pressure: pool(busy, number) },
      });
      if (!granted) continue;
      const ran = statement(
        base,
        STATEMENTS[writing ? 1 : 0] ?? '',
        1_000_000 * (1 + busy) + Math.floor(random() * 99_999),
      );
      add(startMs + number * 1000 + 1, ran);
    }
  }
  // A login each, one that was claimed only, and a statement that went around the services.
  for (const who of ['nina', 'dora', 'carl']) add(FROM_MS + 7 * 3_600_000, login(who, true));
  add(FROM_MS + 7 * 3_600_000 + 5, login('nina', false));
  add(FROM_MS + 30 * 3_600_000, aside());
  add(FROM_MS + 31 * 3_600_000, {
    ...{ event: { action: 'GRANT' }, user: { id: 'dora' }, service: { name: 'records' } },
    audit: { entry: false, target: { type: 'database', id: 'postgresql/clinic' } },
  });
  return writes;
}

function request(who: string, name: string, id: string, permission: string, granted: boolean, duration: number): Part {
  const [, action = 'GET'] = name.split(' ');
  return {
    message: `${who} ${granted ? 'did' : 'was refused'} ${action} on ${id}`,
    event: {
      action,
      duration,
      outcome: granted ? 'success' : 'failure',
      ...(granted ? {} : { reason: `${permission} was not granted` }),
    },
    user: { id: who, ...(ROLES[who] && { roles: [...(ROLES[who] ?? [])] }) },
    service: { name: 'gateway' },
    audit: {
      target: { type: 'endpoint', name, id, service: 'gateway' },
      decision: granted ? 'none' : 'deny',
      checks: [{ permission, granted, duration: 1_000_000 }],
      ...(granted ? {} : { denied_by: 'policy/ward', why: { source: 'check' as const } }),
    },
  };
}

function pool(busy: number, number: number): NonNullable<Part['audit']>['pressure'] {
  if (number === 0) return undefined;
  const ratio = (busy + 5) / 10;
  const state = ratio >= 1 ? 'exhausted' : ratio >= 0.9 ? 'high' : 'normal';
  return { state, metric: 'db.client.connection.count', value: ratio * 20, limit: 20, ratio, metrics: [] };
}

function statement(of: Part, text: string, duration: number): Part {
  return {
    event: { action: 'SELECT', duration },
    user: of.user,
    service: { name: 'records' },
    db: { system: 'postgresql', statement: text },
    audit: {
      entry: false,
      entry_action: of.event?.action,
      entry_target: of.audit?.target?.id,
      target: { type: 'table', id: 'postgresql/clinic.patients', name: 'clinic.patients' },
      checks: [{ permission: 'SELECT', granted: true }],
    },
  };
}

function login(who: string, isKnown: boolean): Part {
  const target = { type: 'account', id: who, name: who, service: 'gateway' };
  return isKnown
    ? {
        event: { action: 'login', category: ['authentication'], duration: 900_000 },
        user: { id: who },
        audit: { target },
      }
    : {
        event: { action: 'login', category: ['authentication'], outcome: 'failure', reason: 'wrong password' },
        user: undefined,
        audit: {
          target,
          decision: 'deny',
          actor: { type: 'anonymous', attribution: 'none', verified: false, claimed: who },
        },
      };
}

function aside(): Part {
  return {
    message: 'postgres read clinic.patients at night',
    event: { action: 'SELECT', duration: 3_000_000_000 },
    user: { id: 'postgres' },
    db: { system: 'postgresql', statement: 'SELECT * FROM patients' },
    audit: {
      target: { type: 'table', id: 'postgresql/clinic.patients', name: 'clinic.patients' },
      join: { state: 'out_of_band' },
    },
  };
}

const BASE_ALERT = {
  ...{ namespace: HOSPITAL, group: { 'user.id': 'nina' }, records: ['1'], traces: [], count: 6, history: [] },
  ...{ firstAt: '2026-03-10T07:00:00Z', lastAt: '2026-03-10T07:05:00Z', raisedAt: '2026-03-10T07:05:01Z' },
};

/** Two of the two days, the first of them closed, and one of before. */
export const ALERTS: readonly Alert[] = [
  {
    ...{ ...BASE_ALERT, id: 'a1', state: 'closed', reason: '6 failed logins as nina in 5 minutes' },
    rule: { id: 'failed-logins', name: 'Repeated failed logins', type: 'threshold', severity: 'high' },
    history: [
      { at: '2026-03-10T07:17:01Z', by: 'sam', state: 'acknowledged' },
      { at: '2026-03-10T08:00:00Z', by: 'sam', state: 'closed', note: 'nina had forgotten her password' },
    ],
  },
  {
    ...{ ...BASE_ALERT, id: 'a2', state: 'open', reason: 'dora read 40 patients', raisedAt: '2026-03-11T09:00:00Z' },
    ...{ firstAt: '2026-03-11T08:00:00Z', lastAt: '2026-03-11T08:59:00Z' },
    rule: { id: 'mass-read', name: 'Mass read', type: 'threshold', severity: 'medium' },
  },
  {
    ...{ ...BASE_ALERT, id: 'a0', state: 'open', reason: 'long ago', raisedAt: '2026-02-01T00:00:00Z' },
    ...{ firstAt: '2026-02-01T00:00:00Z', lastAt: '2026-02-01T00:00:00Z' },
    rule: { id: 'mass-read', name: 'Mass read', type: 'threshold', severity: 'medium' },
  },
];
