import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Client } from '@elastic/elasticsearch';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { explicitEvent, makeTrace } from '../e2e/clinic-evidence.ts';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import type { ElasticsearchVersion } from '../setup/elasticsearch.ts';
import type { SecureElasticsearch, SecureUser } from '../setup/elasticsearch-secure.ts';

/** A whole Spantrail, as a platform team runs it: an administrator sets up, the process has the writer's rights only. */
export function describeServe(
  version: ElasticsearchVersion,
  { server, client }: { readonly server: SecureElasticsearch; readonly client: (user: SecureUser) => Client },
): void {
  const namespace = `served-${version.slice(0, 1)}`;
  let data: string;
  let running: RunningProcess | undefined;
  beforeAll(() => {
    data = mkdtempSync(join(tmpdir(), 'spantrail-secured-'));
  });
  afterAll(async () => {
    await running?.stop('SIGKILL');
    rmSync(data, { recursive: true, force: true });
  });

  const as = (user: SecureUser) => ({
    SPANTRAIL_NAMESPACE: namespace,
    SPANTRAIL_DATA_DIR: data,
    SPANTRAIL_STORE_TYPE: 'elasticsearch',
    SPANTRAIL_STORE_ELASTICSEARCH_URLS: `[${server.url}]`,
    SPANTRAIL_STORE_ELASTICSEARCH_CA_FILE: server.caFile,
    SPANTRAIL_STORE_ELASTICSEARCH_USERNAME: user,
    SPANTRAIL_STORE_ELASTICSEARCH_PASSWORD: server.passwords[user] ?? '',
  });
  const spantrail = (user: SecureUser, words: string[], more: Record<string, string> = {}) =>
    new Promise<{ code: number; text: string }>((resolve) => {
      const options = { env: { ...process.env, ...as(user), ...more } };
      execFile(process.execPath, ['src/cli/spantrail.mjs', ...words], options, (error, stdout, stderr) =>
        resolve({ code: error ? Number(error.code) : 0, text: `${stdout}${stderr}` }),
      );
    });

  describe('a whole Spantrail with the writer’s role', () => {
    it('is set up by an administrator', async () => {
      expect(await spantrail('administrator', ['setup'])).toEqual({ code: 0, text: 'elasticsearch is set up\n' });
      expect((await spantrail('writer', ['doctor', '--url', 'http://127.0.0.1:9'])).code).toBe(1);
    });

    it('stores what comes, revises it, and a reader finds it', async () => {
      running = await startProcess([], as('writer'));
      const trace = makeTrace(7);
      expect(await running.send('traces', trace.payload)).toBe(200);
      await running.settled();
      const found = (minimum: number) => async () => {
        const answer = await client('reader').search({
          index: `spantrail-audit-${namespace}`,
          ignore_unavailable: true,
          query: { range: { 'audit.revision': { gte: minimum } } },
        });
        return answer.hits.hits.map(({ _source }) => (_source as { trace: { id: string } }).trace.id);
      };
      // Two accesses, both of this trace; by the alias, which the administrator's set-up gave.
      await expect.poll(found(1), { timeout: 30_000 }).toEqual([trace.traceId, trace.traceId]);
      expect(await running.send('logs', explicitEvent(trace))).toBe(200);
      await expect.poll(found(2), { timeout: 30_000 }).toContain(trace.traceId);
      const kept = () => client('reader').count({ index: `spantrail-revisions-${namespace}-*` });
      await expect.poll(async () => (await kept()).count, { timeout: 30_000 }).toBeGreaterThan(0);
      expect(await running.search('user.id: alice', true)).not.toEqual([]);
    });

    it('finds nothing wrong, and says what is', async () => {
      const api = `http://127.0.0.1:${running?.api}`;
      const port = String(running?.api);
      const well = await spantrail('writer', ['doctor'], { SPANTRAIL_API_PORT: port });
      expect(well.text).toContain('store is writing');
      expect(well.code).toBe(0);
      expect(running?.log()).not.toMatch(/"level":(40|50)/);

      const index = `spantrail-audit-${namespace}`;
      await client('administrator').indices.putSettings({ index, settings: { 'index.blocks.write': true } });
      const told = await spantrail('writer', ['doctor'], { SPANTRAIL_DATA_DIR: join(data, 'elsewhere') });
      expect(told.text).toMatch(
        /BAD +spantrail-audit-served-\d-[\d.]+: index.blocks.write is on; somebody has set that/,
      );
      expect(told.code).toBe(1);
      await client('administrator').indices.putSettings({ index, settings: { 'index.blocks.write': null } });

      const metrics = await (await fetch(`${api}/metrics`)).text();
      expect(metrics).toMatch(/^spantrail_store_findings\{kind="missing_privilege",.*\} 0$/m);
    });
  });
}
