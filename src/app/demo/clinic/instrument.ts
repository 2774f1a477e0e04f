import { subscribe } from 'node:diagnostics_channel';
import { context } from '@opentelemetry/api';
import { getNodeAutoInstrumentations } from '@opentelemetry/auto-instrumentations-node';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { core, NodeSDK } from '@opentelemetry/sdk-node';

/**
 * The whole of the clinic's telemetry, loaded with `--import` before a service: OpenTelemetry's own parts and nothing of
 * Spantrail. Name and endpoint come from OTEL_SERVICE_NAME and OTEL_EXPORTER_OTLP_ENDPOINT.
 *
 * Who the user is comes from the captured request headers. `authorization` is there for the login alone: its Basic
 * credentials are all that a failed login tells of the account that was tried. Spantrail overwrites the password before
 * anything is stored; afterwards the header is an opaque session, of which nothing is kept.
 */
const sdk = new NodeSDK({
  traceExporter: new OTLPTraceExporter(),
  logRecordProcessors: [],
  metricReaders: [],
  instrumentations: [
    getNodeAutoInstrumentations({
      '@opentelemetry/instrumentation-dns': { enabled: false },
      '@opentelemetry/instrumentation-net': { enabled: false },
      '@opentelemetry/instrumentation-http': {
        headersToSpanAttributes: { server: { requestHeaders: ['x-forwarded-user', 'x-user-roles', 'authorization'] } },
      },
    }),
  ],
});
sdk.start();

// Instrumentations of web frameworks leave the matched route in the RPC metadata, where the HTTP instrumentation takes it as
// `http.route`. For Fastify there is none in the set; Fastify tells its route on this channel.
subscribe('tracing:fastify.request.handler:start', (message) => {
  const metadata = core.getRPCMetadata(context.active());
  const { route } = message as { route: { url: string } };
  if (metadata?.type === core.RPCType.HTTP) metadata.route = route.url;
});

// What is still in the batch goes out before the process ends; without its starter nothing of the clinic lives on.
const end = () => void sdk.shutdown().finally(() => process.exit());
process.once('SIGTERM', end).once('SIGINT', end).once('disconnect', end);
