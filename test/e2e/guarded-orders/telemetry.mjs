/**
 * The telemetry of services that ask before they answer: OpenTelemetry's own parts and nothing of Spantrail. Loaded with `--import`;
 * name and endpoint come from OTEL_SERVICE_NAME and OTEL_EXPORTER_OTLP_ENDPOINT.
 */
import { createRequire } from 'node:module';
import { getNodeAutoInstrumentations } from '@opentelemetry/auto-instrumentations-node';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { NodeSDK } from '@opentelemetry/sdk-node';

const requestHeaders = ['x-forwarded-user', 'x-user-roles', 'x-purpose-of-use', 'baggage'];
const sdk = new NodeSDK({
  traceExporter: new OTLPTraceExporter(),
  logRecordProcessors: [],
  metricReaders: [],
  instrumentations: [
    getNodeAutoInstrumentations({
      '@opentelemetry/instrumentation-dns': { enabled: false },
      '@opentelemetry/instrumentation-net': { enabled: false },
      '@opentelemetry/instrumentation-http': { headersToSpanAttributes: { server: { requestHeaders } } },
      '@opentelemetry/instrumentation-undici': {
        ignoreRequestHook: ({ origin }) => origin === process.env.DECISIONS_ORIGIN,
      },
    }),
  ],
});
sdk.start();
// Modules are instrumented when they are required; `import` takes what is there then.
createRequire(import.meta.url)('node:http');

const end = () => void sdk.shutdown().finally(() => process.exit());
process.once('SIGTERM', end);
