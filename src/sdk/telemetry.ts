import { subscribe } from 'node:diagnostics_channel';
import { createRequire, register } from 'node:module';
import { pathToFileURL } from 'node:url';
import { metrics, ProxyTracerProvider, trace } from '@opentelemetry/api';
import { logs } from '@opentelemetry/api-logs';
import { NodeSDK, type NodeSDKConfiguration } from '@opentelemetry/sdk-node';
import { tellRoute } from './user-middleware.ts';

/** All optional. The OTEL_* variables hold, too; an option wins over the variable of the same meaning. */
export interface TelemetryOptions {
  /** Name of this service in the records; else OTEL_SERVICE_NAME. */
  readonly serviceName?: string | undefined;
  /** Where Spantrail or a Collector listens; else OTEL_EXPORTER_OTLP_ENDPOINT, else http://127.0.0.1:4317. */
  readonly endpoint?: string | undefined;
  /** Namespace of the records (tenant, environment), as Spantrail's `x-spantrail-namespace` has it. */
  readonly namespace?: string | undefined;
  /** Request headers that are captured on server spans, instead of HEADERS. None with an empty list. */
  readonly captureHeaders?: readonly string[] | undefined;
  /** Writes the trace into SQL comments (pg, mysql2), so that the database's own audit log joins the trace. */
  readonly commentStatements?: boolean | undefined;
  /** Instrumentations beside those of @opentelemetry/auto-instrumentations-node, which then may be missing. */
  readonly instrumentations?: NodeSDKConfiguration['instrumentations'] | undefined;
}

export interface Telemetry {
  /** Sends what waits; resolves when it was taken or given up. */
  flush(): Promise<void>;
  /** Sends what waits and ends. */
  shutdown(): Promise<void>;
}

/**
 * Headers that gateways set after checking a login, and those that tell where a request came from. None of them is a secret:
 * `authorization` and `cookie` are left to those who ask for them.
 */
const HEADERS: readonly string[] = [
  ...['x-forwarded-user', 'x-forwarded-preferred-username', 'x-forwarded-email', 'x-forwarded-groups'],
  ...['x-auth-request-user', 'x-auth-request-preferred-username', 'x-auth-request-email', 'x-auth-request-groups'],
  ...['x-remote-user', 'x-authenticated-userid', 'x-user-id', 'x-user-name', 'x-user-roles', 'x-forwarded-client-cert'],
  ...['forwarded', 'x-forwarded-for', 'x-real-ip', 'cf-connecting-ip', 'true-client-ip'],
];

/** What tells which host and container, without the command line (which may hold secrets) and without asking the network. */
const RESOURCE_DETECTORS = 'env,host,container,serviceinstance';
/** The port of OTLP over HTTP by convention; every other is taken for gRPC. */
const HTTP_PORT = '4318';
const AUTO_INSTRUMENTATIONS = '@opentelemetry/auto-instrumentations-node';

/** Often enough that a pool or a processor at its limit is known at the time of the accesses that suffered. */
const METRICS_EVERY_MS = 15_000;

type AutoInstrumentations = typeof import('@opentelemetry/auto-instrumentations-node');
type Environment = Record<string, string | undefined>;
let running: Telemetry | undefined;

/**
 * Starts OpenTelemetry for this service: traces, logs and metrics over OTLP gRPC, with auto-instrumentation. Call it before the
 * modules it shall see are loaded: in a file of its own, `node --import ./telemetry.mjs app.mjs`. Started a second time it
 * gives back what is running.
 * @throws Error when @opentelemetry/auto-instrumentations-node is not installed and no instrumentations are given.
 */
export function startTelemetry(options: TelemetryOptions = {}): Telemetry {
  if (running) return running;
  const automatic = loadAutoInstrumentations(options);
  const sdk = withEnvironment(process.env, variablesOf(options, process.env), () => {
    const detectors = automatic && { resourceDetectors: automatic.getResourceDetectors() };
    const instrumentations = [
      automatic?.getNodeAutoInstrumentations(configOf(options)) ?? [],
      options.instrumentations ?? [],
    ];
    const started = new NodeSDK({ ...detectors, instrumentations: instrumentations.flat() });
    started.start();
    return started;
  });
  // There is no instrumentation of Fastify in the set; it tells its route on this channel.
  subscribe('tracing:fastify.request.handler:start', (message) => {
    tellRoute((message as { route?: { url?: string } }).route?.url);
  });
  let ended: Promise<void> | undefined;
  running = {
    flush,
    shutdown: () => {
      ended ??= sdk.shutdown();
      return ended;
    },
  };
  endWithProcess(running);
  return running;
}

/** The environment in which OpenTelemetry reads its settings: what the user set, the options over it, defaults under it. */
export function variablesOf(options: TelemetryOptions, environment: Environment): Environment {
  const endpoint = options.endpoint ?? (environment['OTEL_EXPORTER_OTLP_ENDPOINT'] || 'http://127.0.0.1:4317');
  if (!URL.canParse(endpoint))
    throw new TypeError(`startTelemetry: endpoint must be a URL such as http://127.0.0.1:4317, not "${endpoint}"`);
  const headers = environment['OTEL_EXPORTER_OTLP_HEADERS'];
  const namespace = options.namespace && `x-spantrail-namespace=${options.namespace}`;
  return {
    OTEL_EXPORTER_OTLP_PROTOCOL: new URL(endpoint).port === HTTP_PORT ? 'http/protobuf' : 'grpc',
    // By default a caller's `traceparent` that says "not sampled" would keep its own requests out of the records.
    OTEL_TRACES_SAMPLER: 'always_on',
    OTEL_NODE_RESOURCE_DETECTORS: RESOURCE_DETECTORS,
    OTEL_METRIC_EXPORT_INTERVAL: String(METRICS_EVERY_MS),
    // Longer than the interval it may not be.
    OTEL_METRIC_EXPORT_TIMEOUT: environment['OTEL_METRIC_EXPORT_INTERVAL'] || String(METRICS_EVERY_MS),
    ...Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== '')),
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    ...(namespace && { OTEL_EXPORTER_OTLP_HEADERS: [headers, namespace].filter(Boolean).join(',') }),
    ...(options.serviceName !== undefined && { OTEL_SERVICE_NAME: options.serviceName }),
  };
}

/** Runs with other variables and puts back what was there, so that child processes do not inherit what is only for this one. */
function withEnvironment<T>(environment: Environment, variables: Environment, run: () => T): T {
  const before = { ...environment };
  Object.assign(environment, variables);
  try {
    return run();
  } finally {
    for (const name of Object.keys(variables)) {
      if (before[name] === undefined) delete environment[name];
      else environment[name] = before[name];
    }
  }
}

function loadAutoInstrumentations({ instrumentations }: TelemetryOptions): AutoInstrumentations | undefined {
  const require = createRequire(import.meta.url);
  let path: string;
  try {
    path = require.resolve(AUTO_INSTRUMENTATIONS);
  } catch (cause) {
    if (instrumentations !== undefined) return undefined;
    const message = `startTelemetry needs ${AUTO_INSTRUMENTATIONS}: "npm install ${AUTO_INSTRUMENTATIONS}", or give it instrumentations of your own`;
    throw new Error(message, { cause });
  }
  // What ES modules import is seen through this hook only. It must be the copy of the instrumentations that will listen to it.
  register(pathToFileURL(createRequire(path).resolve('@opentelemetry/instrumentation/hook.mjs')).href);
  return require(path) as AutoInstrumentations;
}

type Config = NonNullable<Parameters<AutoInstrumentations['getNodeAutoInstrumentations']>[0]>;

function configOf({ captureHeaders = HEADERS, commentStatements = false }: TelemetryOptions): Config {
  const express = { ignoreLayersType: ['middleware', 'router', 'request_handler'] };
  return {
    // Spans for look-ups, sockets and each middleware say nothing about an access and are most of what there is.
    '@opentelemetry/instrumentation-dns': { enabled: false },
    '@opentelemetry/instrumentation-net': { enabled: false },
    '@opentelemetry/instrumentation-router': { enabled: false },
    // It still tells the route. The current span of a handler is that of the request then.
    '@opentelemetry/instrumentation-express': express as Config['@opentelemetry/instrumentation-express'] & object,
    '@opentelemetry/instrumentation-http': {
      headersToSpanAttributes: { server: { requestHeaders: [...captureHeaders] } },
    },
    '@opentelemetry/instrumentation-pg': { addSqlCommenterCommentToQueries: commentStatements },
    '@opentelemetry/instrumentation-mysql2': { addSqlCommenterCommentToQueries: commentStatements },
  };
}

/** Signals that ask a process to end. */
const SIGNALS = ['SIGTERM', 'SIGINT'] as const;
/** How long an end waits for a receiver that does not answer: well below the half minute after which orchestrators kill. */
const END_MS_MAX = 5_000;

/** What waits is sent before the process ends. Where the service handles signals itself, it ends when it says so. */
function endWithProcess(telemetry: Telemetry): void {
  process.once('beforeExit', () => void telemetry.shutdown().catch(() => undefined));
  for (const signal of SIGNALS) {
    const end = () => {
      if (process.listenerCount(signal) > 1) {
        void telemetry.flush().catch(() => undefined);
        return;
      }
      process.off(signal, end);
      const repeat = () => process.kill(process.pid, signal);
      telemetry.shutdown().then(repeat, repeat);
      setTimeout(repeat, END_MS_MAX);
    };
    process.on(signal, end);
  }
}

/** The providers that are registered; the API's own types do not tell that they can be flushed. */
async function flush(): Promise<void> {
  const tracers = trace.getTracerProvider();
  const providers: unknown[] = [
    tracers instanceof ProxyTracerProvider ? tracers.getDelegate() : tracers,
    logs.getLoggerProvider(),
    metrics.getMeterProvider(),
  ];
  await Promise.all(providers.map(async (provider) => (provider as { forceFlush?(): Promise<void> }).forceFlush?.()));
}
