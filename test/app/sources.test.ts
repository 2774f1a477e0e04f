import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openSources } from '../../src/app/sources.ts';
import { settingsSchema } from '../../src/config/schema.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { RecordWrite } from '../../src/core/settlement.ts';
import { makeRecord } from '../fixtures/records.ts';

const SESSION = '7f3c2c1e8a514b909d0e52e1c3a7b955';

it('learns whose session it is although records show neither', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-sources-'));
  const settings = settingsSchema.parse({ redact: { fields: ['session', 'user'] } });
  const counters = new Counters();
  const log = { info: () => undefined, warn: () => undefined, error: () => undefined };
  const sources = await openSources({ settings, folder, clock: { nowMs: Date.now }, counters, log });
  const record = makeRecord({
    session: { id: SESSION },
    user: { id: 'alice' },
    audit: { actor: { type: 'user', attribution: 'header', verified: false } },
  });
  const write: RecordWrite = { id: 'x', namespace: 'default', timestampNs: 1n, rank: 1n, record };
  sources.annotate([write]);
  expect(record.session).toBeUndefined();
  sources.learn([write]);
  expect(counters.total('sessions_known')).toBe(1);
  await sources.close();
  rmSync(folder, { recursive: true, force: true });
});
