import { describeError } from '../core/errors.ts';
import type { Store } from '../store/port.ts';
import { tracesEndpoint } from './telemetry.ts';

type Written = Pick<Store, 'write' | 'get'>;

/** The store with a span around each batch, so that slow writes show in our own traces, where they go somewhere. */
export async function traced(
  store: Written,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<Written> {
  if (tracesEndpoint(environment) === undefined) return store;
  const { SpanStatusCode, trace } = await import('@opentelemetry/api');
  const tracer = trace.getTracer('spantrail');
  return {
    get: (id, hint) => store.get(id, hint),
    write: (batch) =>
      tracer.startActiveSpan('store.write', { attributes: { 'spantrail.records': batch.length } }, async (span) => {
        try {
          return await store.write(batch);
        } catch (error) {
          span.setStatus({ code: SpanStatusCode.ERROR, message: describeError(error) });
          throw error;
        } finally {
          span.end();
        }
      }),
  };
}
