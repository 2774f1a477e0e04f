import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { compileRules } from '../../src/access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../../src/access/settings.ts';
import { openDetectLog } from '../../src/app/detect-log.ts';
import { loadRules } from '../../src/app/rule-files.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { LATE_FIELDS, type RecordWrite } from '../../src/core/settlement.ts';
import { Engine } from '../../src/detect/engine.ts';
import type { Rule } from '../../src/detect/rule.ts';
import { WrittenSubject } from '../../src/detect/subject.ts';
import { createSettle } from '../../src/enrich/settle.ts';
import { nodeDisk } from '../../src/wal/disk.ts';
import { type Plain, span } from '../enrich/evidence.ts';
import { Random } from '../torture/random.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as (options: { type: 'minor' }) => void;

/** As many as the pump writes at once. */
const BATCH_RECORDS = 5_000;
const RECORDS = 60_000;
/** The first ones teach the compiler and the rules. */
const WARM_UP_RECORDS = 20_000;
/** Rules by themselves see no more than that. */
const EACH_BATCHES = 6;
/** Noon of a Monday. */
const DAY_START_NS = 1_795_435_200_000_000_000n;
const ACCESSES_A_SECOND = 500;

interface Traffic {
  readonly people: number;
  readonly things: number;
  /** Records that say the same come with a form and as text, as they do from the settle. */
  readonly hasForms: boolean;
}

/** As text: so many objects would be what the garbage collector is busy with. */
interface Prepared {
  readonly text: string;
  readonly timestampNs: bigint;
  readonly form?: object;
}

const TRAFFIC: Readonly<Record<string, Traffic>> = {
  unlike: { people: 2_000, things: 50_000, hasForms: false },
  alike: { people: 40, things: 10, hasForms: true },
};

/** What the shipped rules, and each of them alone, cost a record; with the log of what they remember on the machine's disk. */
export async function runRules(): Promise<void> {
  const { rules } = await loadRules(settingsSchema.parse({}).detect);
  const on = rules.filter(({ enabled, source }) => enabled && source === 'records');
  for (const [name, traffic] of Object.entries(TRAFFIC)) await runTraffic(name, traffic, on);
}

async function runTraffic(name: string, traffic: Traffic, on: readonly Rule[]): Promise<void> {
  const batches = makeBatches(traffic);
  const all = await measure(on, batches);
  const each = [];
  const fewer = batches.slice(0, EACH_BATCHES);
  for (const rule of on) each.push({ rule: rule.id, ...(await measure([rule], fewer)) });
  process.stdout.write(`${JSON.stringify({ traffic: name, rules: on.length, ...all, each })}\n`);
  each.sort((a, b) => b.microseconds - a.microseconds);
  const rows = [{ rule: `all ${on.length} together`, ...all }, ...each];
  const line = ({ rule, microseconds, logBytes, alerts }: (typeof rows)[number]) =>
    `${rule.padEnd(32)}${microseconds.toFixed(2).padStart(8)} µs a record${logBytes.toFixed(1).padStart(8)} bytes of log a record, ${alerts} alerts`;
  process.stderr.write(`records that are ${name}\n${rows.map(line).join('\n')}\n`);
}

async function measure(rules: readonly Rule[], batches: readonly (readonly Prepared[])[]) {
  const { latenessMs, groupsMax, entriesMax, termsMax } = settingsSchema.parse({}).detect;
  const engine = new Engine(rules, {
    limits: { latenessMs, groupsMax, entriesMax, termsMax },
    onFailure: (rule, reason) => {
      throw new Error(`${rule.id}: ${reason}`);
    },
  });
  const folder = await mkdtemp(join(tmpdir(), 'spantrail-rules-bench-'));
  const quiet = () => undefined;
  const log = await openDetectLog(engine, { folder, disk: nodeDisk, log: { info: quiet, warn: quiet, error: quiet } });
  const alerts = new Set<string>();
  let cpuMicros = 0;
  let records = 0;
  let logBytes = 0;
  for (const texts of batches) {
    const batch = texts.map(writeOf);
    // What the batch itself is made of is no cost of the rules. A full collection would forget what objects look like, and with it compiled code.
    for (let times = 0; times < 2; times++) collectGarbage({ type: 'minor' });
    const before = process.cpuUsage();
    for (const write of batch) engine.observe(new WrittenSubject(write));
    const changes = engine.takeChanges();
    if (changes !== undefined) await log.append([changes]);
    for (const alert of engine.alerts(0)) alerts.add(alert.id);
    engine.forgetAlerts();
    await log.checkpoint(engine);
    const { user, system } = process.cpuUsage(before);
    records += batch.length;
    if (records <= WARM_UP_RECORDS) continue;
    cpuMicros += user + system;
    logBytes += changes === undefined ? 0 : Buffer.byteLength(JSON.stringify(changes));
  }
  await log.checkpoint(engine, true);
  const stateBytes = (await stat(join(folder, 'detect/state'))).size;
  await log.close();
  await rm(folder, { recursive: true });
  const measured = records - WARM_UP_RECORDS;
  return { microseconds: cpuMicros / measured, logBytes: logBytes / measured, stateBytes, alerts: alerts.size };
}

/** Requests with a statement in each, of people who do much or little; two in a hundred are refused. From a fixed seed. */
function makeBatches({ people, things, hasForms }: Traffic): Prepared[][] {
  const random = new Random(7);
  const settle = createSettle(compileRules(DEFAULT_ACCESS_SETTINGS), { traceUrlTemplate: '' });
  const hex = (bytes: number) =>
    Array.from({ length: bytes }, () => random.below(256).toString(16).padStart(2, '0')).join('');
  const batches: Prepared[][] = [];
  let batch: Prepared[] = [];
  const forms = new Map<string, object>();
  for (let made = 0; made < RECORDS; ) {
    const startNs = DAY_START_NS + BigInt(Math.floor((made / ACCESSES_A_SECOND) * 1e9));
    const person = Math.floor(random.next() ** 3 * people);
    const [thing, isRefused] = [random.below(things), random.below(50) === 0];
    const traceId = hex(16);
    const [root, child] = [hex(8), hex(8)];
    const common = {
      service: `service-${random.below(6)}`,
      times: [startNs, startNs + 4_000_000n] as [bigint, bigint],
      // A record whose time is far after it came would count for the time at which it came.
      note: { receivedNs: startNs + 1_000_000_000n },
    };
    const http: Plain = {
      ...{ 'http.request.method': 'GET', 'http.route': '/patients/{id}', 'url.path': `/patients/${thing}` },
      ...{ 'http.response.status_code': isRefused ? 403 : 200, 'client.address': `10.0.${person % 250}.7` },
      ...{ 'user.id': `person-${person}`, 'user.roles': ['clerk'] },
    };
    const statement: Plain = {
      ...{ 'db.system.name': 'postgresql', 'db.namespace': 'clinic', 'db.collection.name': 'patients' },
      ...{ 'db.operation.name': 'SELECT', 'db.query.text': 'SELECT name FROM patients WHERE id = $1' },
    };
    const spans = [
      span({ ...common, id: root, kind: 'server', name: 'GET /patients/{id}', attributes: http }),
      span({ ...common, id: child, parent: root, kind: 'client', name: 'SELECT patients', attributes: statement }),
    ].map((one) => ({ ...one, traceId }));
    const { records } = settle({ namespace: 'bench', traceId, spans, logs: [] });
    batch.push(
      ...records.map(({ record, timestampNs }) => ({
        text: JSON.stringify(record),
        timestampNs,
        ...(hasForms && { form: formOf(record, forms) }),
      })),
    );
    made += records.length;
    if (batch.length >= BATCH_RECORDS) {
      batches.push(batch);
      batch = [];
    }
  }
  return batches;
}

function formOf(record: AuditRecord, forms: Map<string, object>): object {
  const same = structuredClone(record);
  for (const name of LATE_FIELDS) remove(same, name.split('.'));
  const key = JSON.stringify(same);
  const form = forms.get(key) ?? {};
  forms.set(key, form);
  return form;
}

/** Without a form the record is there; with one it is made when somebody asks. */
function writeOf({ text, timestampNs, form }: Prepared): RecordWrite {
  const record = JSON.parse(text) as AuditRecord;
  const common = { id: record.event.id, timestampNs, namespace: 'bench', rank: 1n };
  if (form === undefined) return { ...common, record };
  const bytes = Buffer.from(text);
  let made: AuditRecord | undefined;
  return {
    ...{ ...common, form, durationNs: record.event.duration },
    ...{ traceId: record.trace?.id ?? '', ingestedMs: Date.parse(record.event.ingested) },
    json: () => bytes,
    get record() {
      made ??= JSON.parse(text) as AuditRecord;
      return made;
    },
  };
}

function remove(node: unknown, [key = '', ...rest]: readonly string[]): void {
  if (typeof node !== 'object' || node === null) return;
  if (rest.length === 0) delete (node as Record<string, unknown>)[key];
  else remove((node as Record<string, unknown>)[key], rest);
}
