/** What can be said of the Collector's files without sending anything through them. */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, inject, it } from 'vitest';
import { parse } from 'yaml';
import { collectorBinary, ROOT } from './run.ts';

const FOLDER = join(ROOT, 'deploy/collector');
const FULL = join(ROOT, 'otel-collector-config.yaml');
const collector = inject('collector');

interface CollectorConfig {
  readonly processors: Readonly<Record<string, unknown>>;
  readonly exporters: Readonly<Record<string, unknown>>;
}

const read = (path: string) => readFile(path, 'utf8');
const readConfig = async (path: string) => parse(await read(path)) as CollectorConfig;

describe('the Collector’s files', () => {
  it('deploy/collector/fragment.yaml is ten lines', async () => {
    const lines = (await read(join(FOLDER, 'fragment.yaml'))).trimEnd().split('\n');
    expect(lines.filter((line) => !line.startsWith('#'))).toHaveLength(10);
  });

  it('turn tokens into users in one way', async () => {
    const [layer, full] = await Promise.all([join(FOLDER, 'identity.yaml'), FULL].map(readConfig));
    expect(full?.processors['transform/identity']).toEqual(layer?.processors['transform/identity']);
  });

  it('keep secrets from pages as they do from services', async () => {
    const [pages, full] = await Promise.all([join(FOLDER, 'browser.yaml'), FULL].map(readConfig));
    const patterns = (config: CollectorConfig | undefined) =>
      config?.processors['redaction'] as Readonly<Record<'blocked_key_patterns' | 'blocked_values', readonly string[]>>;
    expect(patterns(pages).blocked_key_patterns).toEqual(patterns(full).blocked_key_patterns);
    expect(patterns(full).blocked_values).toEqual(expect.arrayContaining([...patterns(pages).blocked_values]));
  });

  it('are all on the page', async () => {
    const page = await read(join(ROOT, 'docs/collector.md'));
    for (const file of await readdir(FOLDER)) expect(page).toContain(`](../deploy/collector/${file})`);
  });

  it('name no variable that the page does not explain, but for those of one system’s logs', async () => {
    const page = await read(join(ROOT, 'docs/collector.md'));
    const texts = await Promise.all(
      [
        FULL,
        ...['agent', 'gateway', 'kubernetes', 'browser', 'fragment'].map((name) => join(FOLDER, `${name}.yaml`)),
      ].map(read),
    );
    const names = new Set(
      texts.flatMap((text) => [...text.matchAll(/\$\{env:([A-Z0-9_]+)/g)].map(([, name = '']) => name)),
    );
    expect([...names].filter((name) => !page.includes(`\`${name}\``) && !page.includes(`${name}=`))).toEqual([]);
  });
});

/** `--config` of each command line in a text, but for what is the reader's own. */
function commandsIn(text: string): string[][] {
  const commands = [...text.matchAll(/otelcol-contrib((?: --config [\w./-]+)+)/g)];
  return commands.map(([, parameters = '']) =>
    [...parameters.matchAll(/--config ([\w./-]+)/g)].map(([, path = '']) => path),
  );
}

describe.skipIf('skipped' in collector)('the commands that the files and the page name', () => {
  it('are ones that a real Collector takes', async () => {
    const files = (await readdir(FOLDER)).map((name) => join(FOLDER, name));
    const texts = await Promise.all([join(ROOT, 'docs/collector.md'), FULL, ...files].map(read));
    const commands = new Set(texts.flatMap(commandsIn).map((layers) => layers.map((path) => basename(path)).join(' ')));
    expect(commands.size).toBeGreaterThan(6);
    const folder = await mkdtemp(join(tmpdir(), 'spantrail-collector-files-'));
    try {
      const yours = { receivers: { otlp: { protocols: { grpc: {} } } }, exporters: { nop: {} } };
      const pipelines = { traces: { receivers: ['otlp'], exporters: ['nop'] } };
      await writeFile(join(folder, 'yours.yaml'), JSON.stringify({ ...yours, service: { pipelines } }));
      const placeOf = (name: string) =>
        name === 'yours.yaml' ? join(folder, name) : name === basename(FULL) ? FULL : join(FOLDER, name);
      for (const command of commands) {
        const parameters = command.split(' ').flatMap((name) => ['--config', placeOf(name)]);
        await promisify(execFile)(collectorBinary(), ['validate', ...parameters], { cwd: folder });
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});
