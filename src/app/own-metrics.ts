import type { ObservableResult } from '@opentelemetry/api';
import { PrometheusExporter, PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import { type Counters, METRICS, type MetricName } from '../core/metrics.ts';
import { ownResource } from './own-resource.ts';

/** Spantrail's own metrics, as Prometheus reads them. */
export interface OwnMetrics {
  text(): Promise<string>;
  shutdown(): Promise<void>;
}

/** One observable instrument for each entry of the catalogue; values are read from the counters when somebody asks. */
export function openMetrics(version: string, counters: Counters): OwnMetrics {
  const reader = new PrometheusExporter({ preventServerStart: true });
  const provider = new MeterProvider({ resource: resourceFromAttributes(ownResource(version)), readers: [reader] });
  const meter = provider.getMeter('spantrail', version);
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
  const serializer = new PrometheusSerializer();
  return {
    text: async () => serializer.serialize((await reader.collect()).resourceMetrics),
    shutdown: () => provider.shutdown(),
  };
}
