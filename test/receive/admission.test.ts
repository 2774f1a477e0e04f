import { expect, it } from 'vitest';
import { Counters } from '../../src/core/metrics.ts';
import { compileMask } from '../../src/otlp/mask.ts';
import { createAdmission } from '../../src/receive/admission.ts';
import { createInspect } from '../../src/receive/inspect.ts';
import { encodeTraces } from '../otlp/encode.ts';

it('takes a bounded number of namespaces, and the known ones for ever', async () => {
  const admit = createAdmission({
    wal: { append: async () => undefined },
    counters: new Counters(),
    inspect: createInspect(compileMask({ attributes: [], queryParameters: [] })),
    tie: (payload) => payload,
    namespace: 'default',
    budget: () => ({ refuse: false, retryAfterMs: 0 }),
    trust: () => ({ trusted: true, vouches: false }),
    clock: { nowMs: () => 0 },
    onAppendFailure: () => undefined,
  });
  const spans = [{ traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', name: 'x' }];
  const send = (namespace?: string) =>
    admit('traces', encodeTraces([{ spans }]), { transport: 'http', peer: '127.0.0.1', browser: false, namespace });
  for (let index = 0; index < 999; index++) expect((await send(`team-${index}`)).kind).toBe('accepted');
  expect(await send('one-more')).toMatchObject({ kind: 'invalid', field: 'x-spantrail-namespace' });
  expect((await send('team-7')).kind).toBe('accepted');
  expect((await send()).kind).toBe('accepted');
});
