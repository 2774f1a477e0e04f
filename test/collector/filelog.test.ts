/** deploy/collector/filelog.yaml: each preset's sample lines, where the file says that they lie. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { parse } from 'yaml';
import { PRESET_NAMES } from '../../src/access/mappings/names.ts';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import { ROOT, type RunningCollector, startCollector } from './run.ts';
import { freePort } from './traffic.ts';

const FIXTURES = join(ROOT, 'test/fixtures/presets');
const LAYERS = ['deploy/collector/agent.yaml', 'deploy/collector/filelog.yaml'];
const collector = inject('collector');

interface FilelogConfig {
  readonly receivers: Readonly<Record<string, { readonly include: readonly string[] }>>;
  readonly service: { readonly pipelines: { readonly 'logs/files': { readonly receivers: readonly string[] } } };
}

const readConfig = async () =>
  parse(await readFile(join(ROOT, 'deploy/collector/filelog.yaml'), 'utf8')) as FilelogConfig;

it('deploy/collector/filelog.yaml has a receiver for each preset, and each in its pipeline', async () => {
  const { receivers, service } = await readConfig();
  const names = PRESET_NAMES.map((name) => `file_log/${name}`).sort();
  expect(Object.keys(receivers).sort()).toEqual(names);
  expect([...service.pipelines['logs/files'].receivers].sort()).toEqual(names);
});

describe.skipIf('skipped' in collector)('a Collector with deploy/collector/filelog.yaml', () => {
  let folder: string;
  let port: number;
  let spantrail: RunningProcess | undefined;
  let otelcol: RunningCollector;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-filelog-'));
    const { receivers } = await readConfig();
    for (const name of PRESET_NAMES) {
      // The last path of each: CloudTrail's is the packed one.
      const [path = ''] = receivers[`file_log/${name}`]?.include.slice(-1) ?? [];
      const file = path.replace(/^\$\{env:LOGS:-[^}]*\}/, folder).replace('*', 'sample');
      const lines = await readFile(join(FIXTURES, `${name}.jsonl`));
      await mkdir(join(file, '..'), { recursive: true });
      await writeFile(file, file.endsWith('.gz') ? gzipSync(lines) : lines);
    }
    port = await freePort();
    otelcol = await startAgent();
  });
  afterAll(async () => {
    await Promise.all([otelcol?.stop(), spantrail?.stop()]);
    await rm(folder, { recursive: true, force: true });
  });

  function startAgent(): Promise<RunningCollector> {
    const environment = { SPANTRAIL_ENDPOINT: `127.0.0.1:${port}`, LOGS: folder };
    return startCollector({ layers: LAYERS, folder, environment });
  }

  it('makes a record of each line once, though Spantrail came late and the Collector was killed', async () => {
    // Read and in the queue before anybody is there to take it.
    await expect.poll(() => otelcol.log(), { timeout: 30_000 }).toMatch(/Will retry the request/);
    await otelcol.stop('SIGKILL');
    spantrail = await startProcess([
      '--store',
      'memory',
      '--data-dir',
      join(folder, 'data'),
      '--grpc-port',
      String(port),
    ]);
    otelcol = await startAgent();
    const running = spantrail;
    const counts = async () => {
      const sources = (await running.search('audit.evidence.signal: logs')).map(
        ({ audit }) => audit.evidence[0]?.source,
      );
      return Object.fromEntries(PRESET_NAMES.map((name) => [name, sources.filter((source) => source === name).length]));
    };
    const lines = PRESET_NAMES.map(async (name) => {
      const text = await readFile(join(FIXTURES, `${name}.jsonl`), 'utf8');
      return [name, text.trimEnd().split('\n').length] as const;
    });
    const expected = Object.fromEntries(await Promise.all(lines));
    await expect.poll(counts, { timeout: 60_000, interval: 250 }).toEqual(expected);
    await running.settled();
    expect(await counts()).toEqual(expected);
  });
});
