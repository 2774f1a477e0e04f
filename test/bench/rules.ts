import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileRules } from '../../src/access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../../src/access/settings.ts';
import { openDetectLog } from '../../src/app/detect-log.ts';
import { loadRules } from '../../src/app/rule-files.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import type { AuditRecord } from '../../src/core/record.ts';
import { Engine } from '../../src/detect/engine.ts';
import type { Rule } from '../../src/detect/rule.ts';
import { subjectOf } from '../../src/detect/subject.ts';
import { createSettle } from '../../src/enrich/settle.ts';
import { nodeDisk } from '../../src/wal/disk.ts';
import { type Plain, span } from '../enrich/evidence.ts';
import { Random } from '../torture/random.ts';

/** As many as the pump writes at once. */
const BATCH_RECORDS = 5_000;
const RECORDS = 60_000;
/** The first ones teach the compiler and the rules. */
const WARM_UP_RECORDS = 20_000;
const DAY_START_NS = 1_795_305_600_000_000_000n;
const PEOPLE = 2_000;
const ACCESSES_A_SECOND = 500;

/** What the shipped rules, and each of them alone, cost a record; with the log of what they remember on the machine's disk. */
export async function runRules(): Promise<void> {
  const { rules } = await loadRules(settingsSchema.parse({}).detect);
  const on = rules.filter(({ enabled, source }) => enabled && source === 'records');
  const batches = makeBatches();
  const all = await measure(on, batches);
  const each = [];
  for (const rule of on) each.push({ rule: rule.id, ...(await measure([rule], batches)) });
  process.stdout.write(`${JSON.stringify({ rules: on.length, ...all, each })}\n`);
  each.sort((a, b) => b.microseconds - a.microseconds);
  const rows = [{ rule: `all ${on.length} together`, ...all }, ...each];
  const line = ({ rule, microseconds, logBytes, alerts }: (typeof rows)[number]) =>
    `${rule.padEnd(32)}${microseconds.toFixed(2).padStart(8)} µs a record${logBytes.toFixed(1).padStart(8)} bytes of log a record, ${alerts} alerts`;
  process.stderr.write(`${rows.map(line).join('\n')}\n`);
}

async function measure(rules: readonly Rule[], batches: readonly (readonly AuditRecord[])[]) {
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
  for (const batch of batches) {
    const before = process.cpuUsage();
    for (const record of batch) engine.observe(subjectOf(record));
    const changes = engine.takeChanges();
    if (changes.length > 0) await log.append(changes);
    for (const alert of engine.alerts(0)) alerts.add(alert.id);
    engine.forgetAlerts();
    await log.checkpoint(engine);
    const { user, system } = process.cpuUsage(before);
    records += batch.length;
    if (records <= WARM_UP_RECORDS) continue;
    cpuMicros += user + system;
    logBytes += changes.length > 0 ? Buffer.byteLength(JSON.stringify(changes)) : 0;
  }
  await log.checkpoint(engine, true);
  const stateBytes = (await stat(join(folder, 'detect/state'))).size;
  await log.close();
  await rm(folder, { recursive: true });
  const measured = records - WARM_UP_RECORDS;
  return { microseconds: cpuMicros / measured, logBytes: logBytes / measured, stateBytes, alerts: alerts.size };
}

/** Requests with a statement in each, of people who do much or little; two in a hundred are refused. From a fixed seed. */
function makeBatches(): AuditRecord[][] {
  const random = new Random(7);
  const settle = createSettle(compileRules(DEFAULT_ACCESS_SETTINGS), { traceUrlTemplate: '' });
  const hex = (bytes: number) =>
    Array.from({ length: bytes }, () => random.below(256).toString(16).padStart(2, '0')).join('');
  const batches: AuditRecord[][] = [];
  let batch: AuditRecord[] = [];
  for (let made = 0; made < RECORDS; ) {
    const startNs = DAY_START_NS + BigInt(Math.floor((made / ACCESSES_A_SECOND) * 1e9));
    const person = Math.floor(random.next() ** 3 * PEOPLE);
    const [thing, isRefused] = [random.below(50_000), random.below(50) === 0];
    const traceId = hex(16);
    const [root, child] = [hex(8), hex(8)];
    const common = {
      service: `service-${random.below(6)}`,
      times: [startNs, startNs + 4_000_000n] as [bigint, bigint],
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
    batch.push(...records.map(({ record }) => record));
    made += records.length;
    if (batch.length >= BATCH_RECORDS) {
      batches.push(batch);
      batch = [];
    }
  }
  return batches;
}
