import type { Logger } from 'pino';
import type { Counters } from '../core/metrics.ts';
import type { OwnMetrics } from './own-metrics.ts';
import type { OwnTraces } from './own-traces.ts';

/** Spantrail's own traces and metrics. */
export interface Telemetry {
  metricsText(): Promise<string>;
  shutdown(): Promise<void>;
}

export interface TelemetryOptions {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  readonly counters: Counters;
  /** Called before each reading, to bring gauges up to date. */
  readonly refreshGauges: () => Promise<void>;
  /** Ports that Spantrail itself receives on: exporting there would record itself. */
  readonly ownPorts: readonly number[];
  readonly log: Logger;
}

/**
 * Traces leave only when OTEL_EXPORTER_OTLP_ENDPOINT (or the _TRACES_ one) names a place that is not Spantrail itself;
 * Prometheus metrics are always there to be read. Loading the OpenTelemetry SDK takes as long as half of all the rest of a
 * start, so each part of it is loaded when it is needed: traces behind the start, metrics when somebody reads them first.
 */
export function startTelemetry(options: TelemetryOptions): Telemetry {
  const { version, counters, refreshGauges, log } = options;
  let metrics: Promise<OwnMetrics> | undefined;
  let traces: Promise<OwnTraces> | undefined;
  if (exportsTraces(options)) {
    traces = import('./own-traces.ts').then(({ startTraces }) => startTraces(version));
    traces.catch((error: unknown) => log.error({ error }, 'own traces are not exported'));
  }
  return {
    metricsText: async () => {
      metrics ??= import('./own-metrics.ts').then(({ openMetrics }) => openMetrics(version, counters));
      const { text } = await metrics;
      await refreshGauges();
      return text();
    },
    shutdown: async () => {
      await Promise.all([metrics, traces].map(async (part) => (await part)?.shutdown()));
    },
  };
}

/** Where the environment wants own traces to go; undefined when nowhere. */
export function tracesEndpoint(environment: TelemetryOptions['environment']): string | undefined {
  if (environment['OTEL_SDK_DISABLED'] === 'true' || environment['OTEL_TRACES_EXPORTER'] === 'none') return undefined;
  const endpoint = environment['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] ?? environment['OTEL_EXPORTER_OTLP_ENDPOINT'];
  return endpoint === '' ? undefined : endpoint;
}

function exportsTraces({ environment, ownPorts, log }: TelemetryOptions): boolean {
  const endpoint = tracesEndpoint(environment);
  if (endpoint === undefined) return false;
  if (!URL.canParse(endpoint)) {
    log.warn({ endpoint }, 'own traces are not exported: the OTLP endpoint must be a URL like http://127.0.0.1:4317');
    return false;
  }
  const { hostname, port } = new URL(endpoint);
  const local = /^(localhost|127\.|\[?::1\]?$|0\.0\.0\.0)/.test(hostname);
  if (local && ownPorts.includes(Number(port))) {
    log.warn({ endpoint }, 'own traces are not exported: the OTLP endpoint is this very Spantrail');
    return false;
  }
  return true;
}
