import { z } from 'zod';
import { auth } from './auth.ts';
import { checks, purpose } from './checks.ts';
import { detect } from './detect.ts';
import { elasticsearch } from './elasticsearch.ts';
import { events } from './events.ts';
import { forward } from './forward.ts';
import { identity } from './identity.ts';
import { insights } from './insights.ts';
import { mappings, presets } from './mappings.ts';
import { notify } from './notify.ts';
import { origin } from './origin.ts';
import { pressure } from './pressure.ts';
import { redact } from './redact.ts';
import { tls } from './tls.ts';
import { durationMs, port, sizeBytes } from './values.ts';

/**
 * Every setting: type, default, unit and meaning. Validation, docs, JSON Schema, the example file and the environment
 * variables all come from here (describe.ts, load.ts). Units stand last in a name; values may carry one (`10s`, `64MiB`).
 */

/** The index keeps times in 32 bits of milliseconds. */
const HORIZON_AGE_MAX_MS = 20 * 86_400_000;

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

const HOST_TEXT = 'Address to listen on. 127.0.0.1 is this machine only; 0.0.0.0 is every network it is in.';

const patterns = z.union([z.string(), z.array(z.string())]);
const when = z
  .record(z.string(), patterns)
  .describe('Attribute, or span.name, span.kind, log.event_name, event.action … → pattern or list of patterns with *.');
const target = z.strictObject({ type: z.string().optional(), id: z.string().optional(), name: z.string().optional() });

const receive = z
  .strictObject({
    grpc: z
      .strictObject({
        host: z.string().default('127.0.0.1').describe(HOST_TEXT),
        port: port(4317).describe('OTLP over gRPC. 0 takes any free port.'),
        tls,
      })
      .prefault({}),
    http: z
      .strictObject({
        host: z.string().default('127.0.0.1').describe(HOST_TEXT),
        port: port(4318).describe('OTLP over HTTP, protobuf and JSON. 0 takes any free port.'),
        tls,
        corsOrigins: z
          .array(z.string())
          .default([])
          .describe('Origins whose pages may send, `*` as wildcard, e.g. https://*.example.com. None by default.'),
      })
      .prefault({}),
    maxRequestBytes: sizeBytes('64MiB').describe(
      'Largest request, compressed or not. Over it: RESOURCE_EXHAUSTED, 413.',
    ),
    inFlightBytesMax: sizeBytes('256MiB').describe(
      'Bytes of requests in work at once. Over it: UNAVAILABLE, 503; over a fair share of it: RESOURCE_EXHAUSTED with RetryInfo, 429.',
    ),
    connectionsMax: z
      .int()
      .min(10)
      .default(8192)
      .describe('Connections of senders at once. One address alone gets two thirds of them. Over it they are closed.'),
    trustedPeers: z
      .array(z.string())
      .default(['0.0.0.0/0', '::/0'])
      .describe('Networks whose senders may state actors and outcomes. Browsers never may.'),
    vouchingPeers: z
      .array(z.string())
      .default([])
      .describe(
        'Networks whose senders prove an identity by saying it (gateways that check logins): audit.actor.verified.',
      ),
    maskAttributes: z
      .array(z.string())
      .default([
        'http.request.header.authorization',
        'http.request.header.proxy-authorization',
        'http.request.header.cookie',
        'http.response.header.set-cookie',
        'http.request.header.x-api-key',
        'authorization',
        'proxy-authorization',
        'cookie',
        'set-cookie',
        'x-api-key',
        'password',
        'passwd',
        'passphrase',
        'secret',
        'client_secret',
        'clientsecret',
        'token',
        'access_token',
        'accesstoken',
        'refresh_token',
        'refreshtoken',
        'id_token',
        'idtoken',
        'x-auth-token',
        'x-access-token',
        'x-amz-security-token',
        'x-vault-token',
        'api_key',
        'apikey',
        'private_key',
        'privatekey',
        'secret_key',
        'secretkey',
        'secret_access_key',
        'secretaccesskey',
        // Of temporary credentials, as CloudTrail writes them.
        'session_token',
        'sessiontoken',
      ])
      .describe(
        'Attributes, also keys in lists and JSON, overwritten before they are stored anywhere. Bearer tokens keep their claims, Basic its user. Captured headers and gRPC metadata whose name says token, secret, cookie and the like always are.',
      ),
    maskQueryParameters: z
      .array(z.string())
      .default([
        '*token*',
        '*secret*',
        '*password*',
        'passwd',
        'pwd',
        '*signature*',
        'sig',
        '*api_key*',
        '*apikey*',
        '*access_key*',
        '*accesskey*',
        '*credential*',
        '*assertion*',
        'samlresponse',
        'authorization_code',
        'code',
        'key',
        'session',
        '*sess*id',
        'sid',
        'jwt',
        'otp',
      ])
      .describe(
        'Patterns, `*` as wildcard, of query parameters whose values are overwritten in URLs and texts before they are stored anywhere.',
      ),
  })
  .refine((receive) => receive.inFlightBytesMax >= 2 * receive.maxRequestBytes, {
    path: ['inFlightBytesMax'],
    message: 'must be at least twice maxRequestBytes: a request is counted as it was sent and inflated',
  })
  .prefault({});

const wal = z
  .strictObject({
    segmentBytes: sizeBytes('64MiB').describe(
      'A segment is closed at this size: the grain in which disk is given back.',
    ),
    unsettledBytesMax: sizeBytes('4GiB').describe(
      'Disk for evidence the store does not have yet. Over it: UNAVAILABLE, 503.',
    ),
    horizonBytesMax: sizeBytes('8GiB').describe(
      'Disk for evidence that is stored, kept so that late evidence can join it.',
    ),
    horizonAgeMs: durationMs('1h')
      .refine((age) => age <= HORIZON_AGE_MAX_MS, 'must be at most 20d')
      .describe('Age up to which stored evidence is kept for late evidence to join.'),
    segmentAgeMs: durationMs('10m').describe(
      'A segment is closed at this age though it is not full, so that a quiet system lets old evidence go, too.',
    ),
    compaction: z
      .boolean()
      .default(true)
      .describe(
        'Compress evidence as it is written: the disk has a tenth to do, and much more time fits into horizonBytesMax.',
      ),
    freeBytesMin: sizeBytes('256MiB').describe(
      'Free disk below which stored segments go before their time and evidence is refused (UNAVAILABLE, 503): the store and the journal need room to finish.',
    ),
    reserveBytes: sizeBytes('64MiB').describe(
      'Disk held back in the file `reserve`, given up when the disk is full, so that what was accepted can still be stored.',
    ),
    cacheBytesMax: sizeBytes('32MiB').describe('Memory for recent evidence; older evidence is read back from disk.'),
  })
  .prefault({});

const join = z
  .strictObject({
    graceMs: durationMs('500ms').describe('Quiet time after which a trace with its root and all parents is settled.'),
    rootWaitMs: durationMs('5s').describe('Wait for missing parents after the root has come.'),
    idleMs: durationMs('10s').describe(
      'Quiet time after which a trace without a root is settled; also between two revisions.',
    ),
    maxAgeMs: durationMs('2m').describe('Age at which a trace is settled though evidence still comes.'),
    spansMax: z
      .int()
      .positive()
      .default(10_000)
      .describe(
        'Pieces of evidence above which a trace is settled at once and from a choice of so many: accesses, what leads to them, what explains them, then the smallest span ids. Counts stay exact; accesses beyond get no record, and the others say partial.',
      ),
    indexBytesMax: sizeBytes('512MiB').describe(
      'Memory of the trace index: a quarter for where stored traces are (the oldest are forgotten first), the rest for open ones (then settled early).',
    ),
    lateWaitMaxMs: durationMs('10m').describe(
      'Each further revision of one trace waits twice as long as the one before, at most this.',
    ),
  })
  .prefault({});

const access = z
  .strictObject({
    defaults: z.boolean().default(true).describe('Leave out health checks, static assets and database chatter.'),
    exclude: z.array(z.strictObject({ when })).default([]).describe('What is no access. `include` wins over it.'),
    authentication: z
      .array(z.strictObject({ when, action: z.string().optional() }))
      .default([])
      .describe('Further evidence that is an authentication, so that its failure is an attempt on an account.'),
    accessEvents: z
      .array(z.string())
      .default([])
      .describe('Further names of log events that are accesses, `*` as wildcard.'),
    include: z
      .array(z.strictObject({ when }))
      .default([])
      .describe('What is an access although `exclude` says otherwise.'),
    rename: z
      .array(z.strictObject({ when, action: z.string().optional(), target: target.optional() }))
      .default([])
      .describe('Another action or target; texts may hold ${attribute}.'),
    add: z
      .array(
        z.strictObject({
          name: z.string(),
          when,
          action: z.string(),
          target: z.strictObject({ type: z.string(), id: z.string(), name: z.string().optional() }),
          category: z.array(z.string()).optional(),
          type: z.array(z.string()).optional(),
        }),
      )
      .default([])
      .describe('Further spans or log records that are accesses; texts may hold ${attribute}.'),
    identityHeaders: z
      .array(
        z.strictObject({
          header: z.string(),
          field: z.enum(['id', 'name', 'email', 'roles', 'token', 'claims', 'certificate', 'effective']),
        }),
      )
      .optional()
      .describe(
        'Captured request headers that name the user, in order of precedence, with what each tells: docs/identity.md. Replaces the built-in list.',
      ),
  })
  .prefault({});

const store = z
  .strictObject({
    type: z.enum(['duckdb', 'elasticsearch', 'memory', 'null']).default('duckdb').describe('Where records are kept.'),
    batchRecordsMax: z.int().positive().default(5000).describe('Most records in one write.'),
    setUp: z.boolean().default(true).describe('Install tables or templates at the start. Else run `spantrail setup`.'),
    duckdb: z
      .strictObject({
        memoryBytesMax: sizeBytes('1GiB').describe('Memory that the database may take.'),
        threads: z.int().positive().default(2).describe('Threads that the database may take.'),
      })
      .prefault({}),
    elasticsearch,
  })
  .prefault({});

export const settingsSchema = z.strictObject({
  dataDir: z.string().default('./spantrail-data').describe('Folder of the write-ahead log and the embedded store.'),
  namespace: z
    .string()
    .regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'must be 1 to 63 of a-z, 0-9, _ and -, and start with a letter or digit')
    .default('default')
    .describe('Namespace (tenant, environment) of senders that name none with x-spantrail-namespace.'),
  workers: z.int().min(1).max(64).default(1).describe('Threads that join and settle; 1 does it on the main thread.'),
  insecure: z
    .boolean()
    .default(false)
    .describe(
      'Let listeners be reached from other machines without TLS and authentication, where something else protects them.',
    ),
  auth,
  receive,
  events,
  forward,
  wal,
  join,
  access,
  mappings,
  presets,
  detect,
  identity,
  checks,
  purpose,
  origin,
  pressure,
  redact,
  notify,
  insights,
  enrich: z
    .strictObject({
      traceUrlTemplate: z
        .string()
        .optional()
        .describe('Link to the trace in another tool, with ${trace_id} and ${span_id}: audit.trace.url.'),
    })
    .prefault({}),
  store,
  quarantine: z
    .strictObject({
      bytesMax: sizeBytes('256MiB').describe(
        'Disk for what could be neither stored nor read, until somebody resolves it. Over it nothing more is set aside: it waits in the write-ahead log, and what comes after it, too.',
      ),
    })
    .prefault({}),
  coverage: z
    .strictObject({
      enabled: z.boolean().default(true).describe('Watch what senders leave out: sampling, missing parents, silence.'),
      retentionMs: durationMs('30d')
        .refine((age) => age >= DAY_MS && age <= 400 * DAY_MS, 'must be 1d to 400d')
        .describe('What was seen is remembered hour by hour this long.'),
      servicesMax: z
        .int()
        .min(1)
        .max(10_000)
        .default(300)
        .describe(
          'Services (of all namespaces) that are watched; each takes up to 150 KiB of memory in 30 days. Evidence of others is only counted.',
        ),
      silenceMs: durationMs('1h')
        .refine((silence) => silence >= HOUR_MS, 'must be at least 1h')
        .describe('A service that says nothing for longer is named, if traffic was to be expected then.'),
      downMs: durationMs('10s').describe(
        'Pauses of Spantrail itself are named from this length on; exporters try again for some seconds.',
      ),
    })
    .prefault({}),
  api: z
    .strictObject({
      host: z.string().default('127.0.0.1').describe(HOST_TEXT),
      port: port(4320).describe('HTTP API and page. 0 takes any free port.'),
      tls,
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z.enum(['debug', 'info', 'warn', 'error', 'silent']).default('info').describe('Log lines on stderr.'),
    })
    .prefault({}),
});

/** What code gets: complete and checked, units resolved. */
export type Settings = z.output<typeof settingsSchema>;
