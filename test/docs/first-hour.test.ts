import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, delimiter, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { runProgram } from '../setup/cache.ts';
import { type RunningProgram, startProgram } from '../setup/program.ts';
import { type Block, blocksOf } from './page.ts';

const agents = inject('agents');
const blocks = blocksOf('first-hour.md');
const MARKS = ['start', 'set', 'file', 'serve', 'run', 'look', 'ask', 'not'];
/** Sections with a service, and how each is had. */
const SERVICES = ['Node', 'Python', 'Java', 'Go'];

/** A service that says it listens may need a moment more; what it answers is not what is looked at. */
const CURL = 'curl -sS -o /dev/null --retry 20 --retry-connrefused --retry-delay 1 ';

/** Without what differs from run to run: times, durations, ids, and how wide columns are. */
function plain(text: string): string {
  return text
    .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}/g, 'TIME')
    .replace(/\b[\d.]+ (?:ns|µs|ms|s)\b/g, 'DURATION')
    .replace(/\b[0-9a-f]{12}\b/g, 'ID')
    .replace(/ +/g, ' ')
    .trim();
}

it('says of each block what becomes of it', () => {
  expect(blocks.filter(({ mark }) => !MARKS.includes(mark))).toEqual([]);
  const told = blocks.filter(({ mark }) => mark === 'not').map(({ words }) => words);
  for (const words of told) expect(words).toMatch(/^run: \w.{20,}/);
});

describe.skipIf('skipped' in agents)('the first hour', () => {
  const home = mkdtempSync(join(tmpdir(), 'spantrail-hour-'));
  let spantrail: RunningProgram;
  let ports: { grpc: number; http: number; api: number };
  const services: RunningProgram[] = [];

  beforeAll(async () => {
    install(home);
    spantrail = await shell(blockOf('Start it', 'start'), /^(\{"ready":true.*\})$/m, home);
    ports = JSON.parse(spantrail.ready[1] ?? '');
  });
  afterAll(async () => {
    await Promise.all(services.map((service) => service.stop('SIGKILL')));
    await spantrail?.stop();
    rmSync(home, { recursive: true, force: true });
  });

  /** Starts what a block says and waits for a line of it. */
  function shell(text: string, isReady: RegExp, folder: string): Promise<RunningProgram> {
    return startProgram('bash', ['-euo', 'pipefail', '-c', text], isReady, { folder, environment: environment() });
  }

  it.each(SERVICES)('has records of a service in %s', async (section) => {
    const folder = join(home, section);
    mkdirSync(folder);
    if (section === 'Java' && 'java' in agents)
      copyFileSync(agents.java.agent, join(folder, basename(agents.java.agent)));
    const port = String(await freePort());
    /** With the ports of this run. */
    const fitted = (text: string) => text.replaceAll('8080', port).replaceAll('4317', String(ports.grpc));
    const own = blocks.filter((block) => block.section === section);
    for (const { words, text } of own.filter(({ mark }) => mark === 'file'))
      writeFileSync(join(folder, words), fitted(text));
    const settings = fitted(blockOf('Start it', 'set'));
    services.push(await shell(settings + fitted(only(own, 'serve').text), /listening|Running on/, folder));
    const bash = (script: string) =>
      runProgram('bash', ['-euo', 'pipefail', '-c', script], { folder, environment: environment(ports.api) });
    await bash(fitted(only(own, 'run').text).replaceAll('curl ', CURL));
    const [, command = '', shown = ''] = /^\$ (.*)\n([\s\S]*)$/.exec(only(own, 'look').text) ?? [];
    expect(shown).not.toBe('');
    await expect.poll(async () => plain(await bash(command)), { timeout: 90_000, interval: 1_000 }).toBe(plain(shown));
  });

  it('asks what the page asks', async () => {
    const lines = blockOf('What to ask', 'ask').trimEnd().split('\n');
    for (const line of lines) {
      const said = await runProgram('bash', ['-c', line], { folder: home, environment: environment(ports.api) });
      // An export is in its file.
      expect(said.length, line).toBeGreaterThan(line.includes('--output') ? -1 : 20);
    }
    expect(readFileSync(join(home, 'alice.csv'), 'utf8')).toContain('alice');
  });

  it('lets a page of a named origin send', async () => {
    const folder = join(home, 'browser');
    mkdirSync(folder);
    const other = await shell(blockOf('Browser', 'start'), /^(\{"ready":true.*\})$/m, folder);
    services.push(other);
    const { http } = JSON.parse(other.ready[1] ?? '');
    const asked = blockOf('Browser', 'run').replace('4318', String(http));
    const said = await runProgram('bash', ['-c', asked], { folder });
    expect(said.toLowerCase()).toContain('access-control-allow-origin: http://localhost:5173');
  });

  function environment(api?: number): NodeJS.ProcessEnv {
    const python = 'python' in agents ? [agents.python] : [];
    return {
      ...process.env,
      PATH: [dirname(process.execPath), ...python, process.env['PATH']].join(delimiter),
      SPANTRAIL_RECEIVE_GRPC_PORT: '0',
      SPANTRAIL_RECEIVE_HTTP_PORT: '0',
      SPANTRAIL_API_PORT: '0',
      SPANTRAIL_JOIN_GRACE_MS: '100ms',
      OTEL_BSP_SCHEDULE_DELAY: '200',
      // As the Collector for tests is built, so that what both need is compiled once.
      GOFLAGS: '-trimpath',
      ...(api === undefined ? {} : { SPANTRAIL_URL: `http://127.0.0.1:${api}` }),
    };
  }
});

/** A folder in which `npx spantrail` and `spantrail/sdk` are this checkout's; the package as packed is for other tests. */
function install(folder: string): void {
  const checkout = join(import.meta.dirname, '../..');
  const modules = join(folder, 'node_modules');
  const installed = join(modules, 'spantrail');
  for (const made of [join(modules, '.bin'), installed]) mkdirSync(made, { recursive: true });
  symlinkSync(join(checkout, 'src/cli/spantrail.mjs'), join(modules, '.bin/spantrail'));
  symlinkSync(join(checkout, 'node_modules/express'), join(modules, 'express'));
  writeFileSync(join(installed, 'register.mjs'), `import ${JSON.stringify(join(checkout, 'src/sdk/register.ts'))};\n`);
  const manifest = { name: 'spantrail', exports: { './sdk/register': './register.mjs' } };
  writeFileSync(join(installed, 'package.json'), JSON.stringify(manifest));
}

function only(of: readonly Block[], mark: string): Block {
  const found = of.filter((block) => block.mark === mark);
  expect(found, mark).toHaveLength(1);
  return found[0] as Block;
}

function blockOf(section: string, mark: string): string {
  return only(
    blocks.filter((block) => block.section === section),
    mark,
  ).text;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}
