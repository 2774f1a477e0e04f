/**
 * The telemetry of a shop whose statements say which request they belong to: OpenTelemetry's own parts and nothing of Spantrail.
 * Loaded with `--import`; name and endpoint come from OTEL_SERVICE_NAME and OTEL_EXPORTER_OTLP_ENDPOINT.
 */
import { getNodeAutoInstrumentations } from '@opentelemetry/auto-instrumentations-node';
import { OTLPLogExporter } from '@opentelemetry/exporter-logs-otlp-grpc';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { SimpleLogRecordProcessor } from '@opentelemetry/sdk-logs';
import { NodeSDK } from '@opentelemetry/sdk-node';

const sdk = new NodeSDK({
  traceExporter: new OTLPTraceExporter(),
  logRecordProcessors: [new SimpleLogRecordProcessor({ exporter: new OTLPLogExporter() })],
  metricReaders: [],
  instrumentations: [
    getNodeAutoInstrumentations({
      '@opentelemetry/instrumentation-dns': { enabled: false },
      '@opentelemetry/instrumentation-net': { enabled: false },
      '@opentelemetry/instrumentation-http': {
        headersToSpanAttributes: { server: { requestHeaders: ['x-forwarded-user'] } },
      },
      // Writes `traceparent` into the comment of each statement that is not prepared.
      '@opentelemetry/instrumentation-pg': { addSqlCommenterCommentToQueries: true },
    }),
  ],
});
sdk.start();

const end = () => void sdk.shutdown().finally(() => process.exit());
process.once('SIGTERM', end);
