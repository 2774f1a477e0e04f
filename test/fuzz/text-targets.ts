import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { redactAddresses, redactErrorText } from '../../src/access/error-text.ts';
import { foldPath } from '../../src/access/route.ts';
import { readStatement } from '../../src/access/statement.ts';
import { createApi } from '../../src/api/server.ts';
import { loadSettings } from '../../src/config/load.ts';
import { AppError } from '../../src/core/errors.ts';
import { notWatchedAnswer, notWatchedSummary } from '../../src/coverage/report.ts';
import { encodeExportResponse, encodeStatus } from '../../src/otlp/response.ts';
import { evaluate } from '../../src/query/evaluate.ts';
import { parseQuery } from '../../src/query/parse.ts';
import { printQuery } from '../../src/query/print.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { apiNeeds } from '../api/needs.ts';
import { makeRecord } from '../fixtures/records.ts';
import { ORACLE, oracleDecode, type Plain } from '../otlp/oracle.ts';
import type { Random } from '../simulation/random.ts';
import { promise, type Target } from './target.ts';

const NOW_MS = Date.parse('2026-11-22T12:00:00Z');
const RECORD = makeRecord({ message: 'alice read patients/7 (GET /patients/{id}), 12 ms' });

const texts = (...lines: string[]) => lines.map((line) => Buffer.from(line));

const query: Target = {
  name: 'query',
  weight: 4,
  samples: texts(
    'user.id: alice and not event.outcome: failure',
    'message: "read patients" or (source.ip: 10.0.0.0/8 and event.duration >= 41ms)',
    '@timestamp >= now-15m and @timestamp < "2026-11-22T10:00:00Z" and http.response.status_code: (403 or 5*)',
    'audit.target.id: patients\\/* alice 10.0.0.7',
  ),
  tokens: [
    ...[
      'user.id',
      'message',
      '@timestamp',
      'event.duration',
      'source.ip',
      'audit.join.late',
      ':',
      ' and ',
      ' or ',
      'not ',
    ],
    ...['(', ')', '"', '\\', '*', '>=', '<', 'now-1h', '2026-13-45', '1e999', '::1/129', 'true', '\u0000', 'é', '0x1'],
  ],
  check(input) {
    const text = input.toString();
    const parsed = parseQuery(text, { nowMs: NOW_MS });
    if (!parsed.ok) {
      const { column, message } = parsed;
      promise(column >= 1 && column <= text.length + 1, () => `column ${column} of ${text.length}`);
      promise(message.length > 0 && message.length < 500 + text.length, () => `a message of ${message.length}`);
      return;
    }
    evaluate(parsed.query, RECORD);
    const printed = printQuery(parsed.query);
    const again = parseQuery(printed, { nowMs: NOW_MS });
    promise(again.ok, () => `it prints as ${printed}, which does not parse`);
    const same = again.ok && printQuery(again.query) === printed;
    promise(same, () => `it prints as ${printed}, which is another query`);
  },
};

const SYSTEMS = ['postgresql', 'mysql', 'mongodb', 'redis', 'elasticsearch', 'mssql', ''];

/** A literal is never longer than this, nor shown. */
const SECRET = 'hunter2hunter2';

/** Statements whose literals are known: whatever stands around them, none may show. */
function generateStatement(random: Random): Buffer {
  const literal = () =>
    random.pick([
      `'${SECRET}'`,
      `'it''s ${SECRET}'`,
      `$$${SECRET}$$`,
      `$a$${SECRET}$a$`,
      `N'${SECRET}'`,
      `E'\\'${SECRET}'`,
    ]);
  const word = () =>
    random.pick(['SELECT', 'FROM', 't', 'WHERE', 'a', '=', 'AND', 'IN', '(', ')', ',', '/* c */', '-- c\n']);
  const parts = Array.from({ length: random.int(1, 12) }, () => (random.chance(0.3) ? literal() : word()));
  return Buffer.from(`SELECT * FROM t WHERE a = ${literal()} ${parts.join(' ')}`);
}

const statement: Target = {
  name: 'statement',
  weight: 7,
  samples: texts(
    "SELECT a, \"B\" FROM public.orders o JOIN x ON o.id = x.id WHERE name = 'it''s' AND n IN (1, 2.5e3) -- c",
    "WITH a AS (SELECT 1), b AS (DELETE FROM t RETURNING *) INSERT INTO s.t (a, b) VALUES ($1, 'x'), (E'\\n', $q$y$q$)",
    'UPDATE `db`.`t` SET a = "x\\"y" WHERE b = 0x1F /* unfinished',
    '{"find": "orders", "filter": {"name": "alice", "n": 7}}',
    'SET session:7 "secret"\nGET session:7',
    "MERGE INTO [dbo].[t] AS x USING (SELECT 1) s ON x.a = s.a WHEN MATCHED THEN UPDATE SET a = N'b'",
  ),
  tokens: [
    ...[
      "'",
      '"',
      '`',
      '$$',
      '$a$',
      '--',
      '/*',
      '*/',
      ';',
      '(',
      ')',
      "''",
      '\\',
      "E'",
      "q'[",
      '\n',
      '?',
      ':a',
      '@b',
      '#',
    ],
    ...['SELECT ', ' FROM ', ' WHERE ', 'INSERT INTO ', 'WITH ', 'AS (', '\u0000', '{', '}', '0x', '1e', 'é'],
  ],
  generate: generateStatement,
  check(input) {
    const text = input.toString();
    const isWhole = /^SELECT \* FROM t WHERE a = /.test(text) && text.includes(SECRET) && !text.includes('\ufffd');
    for (const system of SYSTEMS) {
      const read = readStatement(text, system);
      promise(read.text.length <= 3 * text.length + 64, () => `${system}: ${text.length} became ${read.text.length}`);
      promise((read.table ?? '').length <= text.length, () => `${system}: a table of ${read.table?.length}`);
    }
    if (isWhole) {
      const shown = readStatement(text, 'postgresql').text;
      promise(!shows(text, shown), () => `a literal shows: ${shown}`);
    }
  },
};

/** Only what stands in quotes that nothing before them can have opened is known to be a literal. */
function shows(text: string, shown: string): boolean {
  const first = /^SELECT \* FROM t WHERE a = '([^'\\]*)' /.exec(text)?.[1];
  return first === SECRET && text.split(SECRET).length === 2 && shown.includes(SECRET);
}

const errorText: Target = {
  name: 'error-text',
  weight: 4,
  samples: texts(
    'ERROR: duplicate key value violates unique constraint "t_pkey"\nDETAIL: Key (email)=(a@b.c) already exists.',
    "Error: insert into t values ('x') - Duplicate entry 'x' for key 'PRIMARY'\n    at Query (/srv/db.js:1:2)\nCaused by: y",
    'GET https://alice:secret@example.com/a?token=abc&q=1#access_token=x failed',
    'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    x("y")\nValueError: invalid \'z\'',
  ),
  tokens: [
    'Key (',
    ')=(',
    "'",
    '"',
    '\n    at ',
    '://',
    '?token=',
    '&',
    'select ',
    ' from ',
    'LINE 1: ',
    '^',
    'Caused by: ',
  ],
  check(input) {
    const text = input.toString();
    for (const isStack of [false, true]) {
      const redacted = redactErrorText(text, 'postgresql', isStack);
      promise(redacted.length <= 3 * text.length + 64, () => `${text.length} became ${redacted.length}`);
    }
    const shown = redactAddresses(text, (name) => name === 'token');
    promise(shown.length <= 3 * text.length + 64, () => `${text.length} became ${shown.length}`);
    promise(foldPath(text).length <= text.length + 64, () => 'a path grew');
  },
};

const response: Target = {
  name: 'response',
  weight: 3,
  samples: texts('2 spans have no valid id', 'é\u0000"\\\n', 'x'.repeat(2000), '\u{1f600}'.repeat(400)),
  tokens: ['"', '\\', '\u2028', '\u{1f600}', '\u0007'],
  check(input) {
    const text = input.toString();
    const json = JSON.parse(encodeExportResponse('json', 'traces', 3, text).toString());
    promise(typeof json.partialSuccess.errorMessage === 'string', () => 'no message in JSON');
    const plain = oracleDecode(ORACLE.exportResponse, encodeExportResponse('protobuf', 'logs', 3, text));
    const told = (plain['partialSuccess'] as Plain)['errorMessage'] ?? '';
    promise(told === json.partialSuccess.errorMessage, () => `${told} is not ${json.partialSuccess.errorMessage}`);
    const answer = {
      code: 3,
      message: text,
      retryAfterMs: input.length,
      badRequest: { field: text, description: text },
    };
    const bytes = encodeStatus('protobuf', answer);
    promise(bytes.length < 16_000, () => `a status of ${bytes.length} bytes`);
    promise(oracleDecode(ORACLE.status, bytes)['code'] === 3, () => 'the status has another code');
    promise(
      JSON.parse(encodeStatus('json', answer).toString()).code === 3,
      () => 'the status in JSON has another code',
    );
  },
};

/** Anything that a person or a page may ask: answered, never with a failure of ours. */
function apiTarget(): Target {
  const failures: unknown[] = [];
  const store = new MemoryStore();
  void store.write([
    { id: RECORD.event.id, namespace: 'default', timestampNs: 1_790_000_000_000_000_000n, rank: 1n, record: RECORD },
  ]);
  const coverage = { answer: notWatchedAnswer.bind(undefined, NOW_MS), summary: notWatchedSummary };
  const api = createApi(apiNeeds({ store, coverage, reportFailure: (error) => void failures.push(error) }));
  return {
    name: 'api',
    weight: 1,
    samples: texts(
      'records?q=user.id:%20alice&from=-15m&to=now&limit=10&sort=event.duration:asc&inner=true',
      'facets?fields=user.id,event.outcome&limit=5',
      'histogram?bucket=5m&q=*',
      'export?format=csv&q=message:%20%22a%22',
      'traces/0af7651916cd43dd8448eb211c80319c',
      `records/${RECORD.event.id}`,
      'records?cursor=eyJpZCI6ImEifQ&sort=@timestamp:desc',
      'quarantine?state=all&limit=3&cursor=0123456789abcdef',
      'coverage?from=-1d&service=orders',
    ),
    tokens: [
      ...[
        'records?',
        'facets?',
        'histogram?',
        'export?',
        'traces/',
        '&q=',
        '&from=',
        '&cursor=',
        '&limit=',
        '&sort=',
        '%00',
      ],
      ...[
        '%',
        '%ff',
        '../',
        '&bucket=0s',
        '&bucket=999999999999999d',
        '&limit=-1',
        '__proto__',
        '&fields=message',
        '//',
      ],
    ],
    async check(input) {
      const url = `/api/v1/${input.toString('latin1').replace(/[^\x21-\x7e]/g, '%20')}`;
      const { statusCode, body } = await api.inject({ method: 'GET', url });
      promise(statusCode < 500, () => `${statusCode} for ${url}: ${body} ${describe(failures)}`);
      failures.length = 0;
    },
  };
}

function describe(failures: readonly unknown[]): string {
  return failures.map((failure) => (failure instanceof Error ? failure.stack : String(failure))).join('\n');
}

function settingsTarget(): Target {
  const file = join(tmpdir(), `spantrail-fuzz-${process.pid}.yaml`);
  process.once('exit', () => rmSync(file, { force: true }));
  return {
    name: 'settings',
    weight: 0.5,
    samples: texts(
      'dataDir: /var/lib/spantrail\nreceive:\n  grpc: { port: 4317 }\n  maxRequestBytes: 64MiB\njoin:\n  idleMs: 10s\n',
      'access:\n  add:\n    - name: a\n      when: { span.name: "x*" }\n      action: read\n      target: { type: t, id: "${a}" }\n',
      'store: &a\n  type: memory\nenrich: {traceUrlTemplate: "${env:URL:-http://x/}${trace_id}"}\n',
    ),
    tokens: [
      ...[
        ': ',
        '\n  ',
        '- ',
        '&a ',
        '*a',
        '<<: *a',
        '${env:X}',
        '${env:X:-',
        '}',
        '!!binary ',
        '|',
        '>',
        '#',
        '"',
        "'",
        '[',
        ']',
      ],
      ...['join', 'wal', 'segmentBytes', '1e400', '-1', 'null', '~', '\t', '---', '%YAML 1.1', '? ', '64MiB', '10s'],
    ],
    check(input) {
      writeFileSync(file, input);
      try {
        loadSettings({ file, environment: { URL: 'u' } });
      } catch (thrown) {
        if (!(thrown instanceof AppError)) throw thrown;
        promise(thrown.code === 'config', () => `code ${thrown.code}`);
        promise(
          thrown.message.length > 0 && thrown.message.length < 64_000,
          () => `a message of ${thrown.message.length}`,
        );
      }
    },
  };
}

export const TEXT_TARGETS: readonly Target[] = [query, statement, errorText, response, apiTarget(), settingsTarget()];
