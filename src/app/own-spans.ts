import { SpanStatusCode, trace } from '@opentelemetry/api';
import { describeError } from '../core/errors.ts';
import type { Store } from '../store/port.ts';

/** The store with a span around each batch, so that slow writes show in our own traces. */
export function traced(store: Pick<Store, 'write' | 'get'>): Pick<Store, 'write' | 'get'> {
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
