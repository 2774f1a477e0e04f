import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { EVENT_FIELDS } from '../../src/access/mappings/fields.ts';
import { PRESET_NAMES } from '../../src/access/mappings/names.ts';
import { freePort } from '../collector/traffic.ts';
import { runProgram } from '../setup/cache.ts';
import { type RunningProgram, startProgram } from '../setup/program.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const ROOT = join(import.meta.dirname, '../..');
const FIXTURES = join(ROOT, 'test/fixtures/presets');
const collector = inject('collector');

interface Receiver {
  include: string[];
}

/** The code blocks of a language on the page that tells users how to set this up. */
async function blocksOf(language: string): Promise<string[]> {
  const page = await readFile(join(ROOT, 'docs/presets.md'), 'utf8');
  return [...page.matchAll(/^```(\w*)\n([\s\S]*?)^```/gm)]
    .filter(([, name]) => name === language)
    .map(([, , text = '']) => text);
}

describe('the page about presets', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-presets-page-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('shows what the command prints', async () => {
    const plain = await blocksOf('');
    const line = plain.find((text) => text.startsWith('{"type":"badge"')) ?? '';
    const shown = plain.find((text) => text.startsWith('$ ')) ?? '';
    const settings = (await blocksOf('yaml')).find((text) => text.startsWith('mappings:')) ?? '';
    await writeFile(join(folder, 'doors.log'), line);
    await writeFile(join(folder, 'spantrail.yaml'), settings);
    const [command = '', ...expected] = shown.split('\n');
    const [, ...args] = command.replace('$ ', '').split(' ');
    const printed = await runProgram(process.execPath, [join(ROOT, 'src/cli/spantrail.mjs'), ...args], { folder });
    expect(printed).toBe(expected.join('\n'));
  });

  it('names every preset, and every field that a mapping may give', async () => {
    const page = await readFile(join(ROOT, 'docs/presets.md'), 'utf8');
    for (const name of [...PRESET_NAMES, ...EVENT_FIELDS]) expect(page).toContain(`\`${name}\``);
  });
});

describe.skipIf('skipped' in collector)('a Collector that tails other systems’ audit logs, as the page says', () => {
  let folder: string;
  let spantrail: RunningProcess;
  let otelcol: RunningProgram;
  const names: string[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-presets-'));
    spantrail = await startProcess(['--store', 'memory', '--data-dir', join(folder, 'data')]);
    const [block = ''] = await blocksOf('yaml');
    const { receivers } = parse(block) as { receivers: Record<string, Receiver> };
    const pipelines: Record<string, unknown> = {};
    for (const [receiver, settings] of Object.entries(receivers)) {
      const name = receiver.replace('file_log/', '');
      names.push(name);
      settings.include = settings.include.map((path) => join(folder, path.replace('*', 'sample')));
      await mkdir(dirname(settings.include[0] ?? ''), { recursive: true });
      await copyFile(join(FIXTURES, `${name}.jsonl`), settings.include[0] ?? '');
      pipelines[`logs/${name}`] = { receivers: [receiver], exporters: ['otlp_grpc/spantrail'] };
    }
    const added = join(folder, 'added.yaml');
    await writeFile(added, stringify({ receivers, service: { pipelines } }));
    otelcol = await startCollector(added);
  });
  afterAll(async () => {
    await Promise.all([otelcol?.stop(), spantrail?.stop()]);
    await rm(folder, { recursive: true, force: true });
  });

  async function startCollector(added: string): Promise<RunningProgram> {
    const environment = {
      ...process.env,
      COLLECTOR_GRPC_ENDPOINT: `127.0.0.1:${await freePort()}`,
      COLLECTOR_HTTP_ENDPOINT: `127.0.0.1:${await freePort()}`,
      COLLECTOR_QUEUE_DIR: join(folder, 'queue'),
      SPANTRAIL_ENDPOINT: `127.0.0.1:${spantrail.grpc}`,
    };
    const configs = [join(ROOT, 'otel-collector-config.yaml'), added, 'yaml:service::telemetry::metrics::level: none'];
    const binary = 'binary' in collector ? collector.binary : '';
    return startProgram(
      binary,
      configs.flatMap((config) => ['--config', config]),
      /Everything is ready/,
      { environment },
    );
  }

  it('makes a record of every line', async () => {
    const expected = Object.fromEntries(
      await Promise.all(
        names.map(async (name) => {
          const lines = (await readFile(join(FIXTURES, `${name}.jsonl`), 'utf8')).trimEnd().split('\n');
          return [name, lines.length] as const;
        }),
      ),
    );
    const total = Object.values(expected).reduce((sum, count) => sum + count, 0);
    const deadline = Date.now() + 60_000;
    let records = await spantrail.search('audit.evidence.signal: logs', true);
    while (records.length < total && Date.now() < deadline) {
      await sleep(250);
      records = await spantrail.search('audit.evidence.signal: logs', true);
    }
    const sources = records.map(({ audit }) => audit.evidence[0]?.source ?? '');
    const counted = Object.fromEntries(names.map((name) => [name, sources.filter((source) => source === name).length]));
    expect(counted).toEqual(expected);
    const [refused] = await spantrail.search('user.id: "system:serviceaccount:shop:orders"', true);
    expect(refused).toMatchObject({
      '@timestamp': '2026-11-20T09:16:00.000000000Z',
      audit: {
        decision: 'deny',
        target: { id: 'secrets/kube-system' },
        evidence: [{ id: 'a1b7c5d2-24f0-4b8e-9a55-93f5a5b5a002' }],
      },
    });
  });
});
