import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import { torture } from './rounds.ts';

const elasticsearch = inject('elasticsearch')['9.5.0'];
const STORES = [
  { store: 'duckdb', url: undefined, skip: false },
  {
    store: 'elasticsearch',
    url: 'url' in elasticsearch ? elasticsearch.url : undefined,
    skip: 'skipped' in elasticsearch,
  },
] as const;
const ROUNDS = 10;

describe('ten rounds of kills under load', () => {
  for (const { store, url, skip } of STORES) {
    // A round takes some three seconds on two cores that do nothing else.
    it.skipIf(skip)(`leave every acknowledged access exactly once, on ${store}`, { timeout: 600_000 }, async () => {
      const folder = mkdtempSync(join(tmpdir(), `spantrail-torture-${store}-`));
      const seed = randomBytes(4).readUInt32LE();
      const namespace = `torture-${seed}`;
      const lines = [`seed ${seed}, the data folder is kept: ${folder}`];
      const say = (line: string) => void lines.push(line);
      const result = await torture({
        store,
        rounds: ROUNDS,
        seed,
        folder,
        namespace,
        elasticsearchUrl: url,
        say,
      }).catch((error: unknown) => {
        throw new Error(`${lines.join('\n')}\n${error instanceof Error ? error.message : error}`, { cause: error });
      });
      expect(result.kills.underLoad + result.kills.terminated).toBe(ROUNDS + 1);
      // What must not be empty for the rounds to mean something.
      expect(result.accesses).toBeGreaterThan(100);
      for (const [kind, count] of Object.entries(result.acknowledgedByKind)) {
        expect(count, kind).toBeGreaterThan(0);
      }
      rmSync(folder, { recursive: true });
    });
  }
});
