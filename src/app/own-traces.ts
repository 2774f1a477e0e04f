import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { NodeSDK, resources, tracing } from '@opentelemetry/sdk-node';
import { ownResource } from './own-resource.ts';

/** Spantrail's own traces, on their way to where OTEL_EXPORTER_OTLP_ENDPOINT says. */
export interface OwnTraces {
  shutdown(): Promise<void>;
}

export function startTraces(version: string): OwnTraces {
  const sdk = new NodeSDK({
    resource: resources.resourceFromAttributes(ownResource(version)),
    autoDetectResources: false,
    // Those are read, not sent.
    metricReaders: [],
    logRecordProcessors: [],
    spanProcessors: [new tracing.BatchSpanProcessor(new OTLPTraceExporter())],
  });
  sdk.start();
  return { shutdown: () => sdk.shutdown() };
}
