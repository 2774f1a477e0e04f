import { type Meter, metrics, type ObservableResult } from '@opentelemetry/api';
import { PrometheusExporter, PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { NodeSDK, resources, tracing } from '@opentelemetry/sdk-node';
import type { Logger } from 'pino';
import { type Counters, METRICS, type MetricName } from '../core/metrics.ts';

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
 * Starts the OpenTelemetry SDK. Traces leave only when OTEL_EXPORTER_OTLP_ENDPOINT (or the _TRACES_ one) names a place
 * that is not Spantrail itself; Prometheus metrics are always there to be read.
 */
export function startTelemetry(options: TelemetryOptions): Telemetry {
  const reader = new PrometheusExporter({ preventServerStart: true });
  const sdk = new NodeSDK({
    resource: resources.resourceFromAttributes({ 'service.name': 'spantrail', 'service.version': options.version }),
    autoDetectResources: false,
    metricReaders: [reader],
    logRecordProcessors: [],
    spanProcessors: exportsTraces(options) ? [new tracing.BatchSpanProcessor(new OTLPTraceExporter())] : [],
  });
  sdk.start();
  observe(metrics.getMeter('spantrail', options.version), options);
  const serializer = new PrometheusSerializer();
  return {
    metricsText: async () => {
      await options.refreshGauges();
      const { resourceMetrics } = await reader.collect();
      return serializer.serialize(resourceMetrics);
    },
    shutdown: () => sdk.shutdown(),
  };
}

function exportsTraces({ environment, ownPorts, log }: TelemetryOptions): boolean {
  if (environment['OTEL_SDK_DISABLED'] === 'true' || environment['OTEL_TRACES_EXPORTER'] === 'none') return false;
  const endpoint = environment['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] ?? environment['OTEL_EXPORTER_OTLP_ENDPOINT'];
  if (endpoint === undefined || endpoint === '') return false;
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

/** One observable instrument for each entry of the catalogue; values are read from the counters when somebody asks. */
function observe(meter: Meter, { counters }: TelemetryOptions): void {
  for (const [name, { kind, unit, text }] of Object.entries(METRICS)) {
    const settings = { description: text, unit };
    const instrument =
      kind === 'counter'
        ? meter.createObservableCounter(`spantrail.${name}`, settings)
        : meter.createObservableGauge(`spantrail.${name}`, settings);
    instrument.addCallback((result: ObservableResult) => {
      for (const sample of counters.samples()) {
        if (sample.name === (name as MetricName)) result.observe(sample.value, { ...sample.labels });
      }
    });
  }
}
