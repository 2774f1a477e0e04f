import { ZoneContextManager } from '@opentelemetry/context-zone';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { registerInstrumentations } from '@opentelemetry/instrumentation';
import { FetchInstrumentation } from '@opentelemetry/instrumentation-fetch';
import { UserInteractionInstrumentation } from '@opentelemetry/instrumentation-user-interaction';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, WebTracerProvider } from '@opentelemetry/sdk-trace-web';

// Where Spantrail (or a Collector) takes OTLP over HTTP; it must allow the origin of this page.
const url = `${import.meta.env.VITE_OTLP_URL}/v1/traces`;

const provider = new WebTracerProvider({
  resource: resourceFromAttributes({ 'service.name': 'shop-page' }),
  // A click is one span; it leaves within a second, and when the page is left.
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url }), { scheduledDelayMillis: 1000 })],
});
// Zones carry the click's context through promises and timers to the requests it causes.
provider.register({ contextManager: new ZoneContextManager() });

registerInstrumentations({
  instrumentations: [
    new UserInteractionInstrumentation({ eventNames: ['click', 'submit'] }),
    // The own origin gets the trace in a `traceparent` header by itself; other origins must be named here, and allow that header.
    new FetchInstrumentation({ propagateTraceHeaderCorsUrls: [], ignoreUrls: [url] }),
  ],
});
