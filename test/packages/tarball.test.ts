import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { EXPECTED } from '../../src/app/demo/cases.ts';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import { runProgram } from '../setup/cache.ts';

const tools = inject('packageTools');
/** On a machine whose cores are taken by other tests, installing and running each need a multiple of half a minute. */
const MS_MAX = 300_000;

/** A project with nothing but what npm makes of the packed file, with what it depends on from the registry. */
describe.skipIf('skipped' in tools)('the packed package in an empty folder', () => {
  let folder = '';
  let spantrail: RunningProcess | undefined;
  const nodes = {
    22: 'skipped' in tools ? '' : tools.node22,
    24: dirname(process.execPath),
  };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-empty-'));
    const quiet = ['--no-audit', '--no-fund', '--prefer-offline'];
    await runProgram('npm', ['install', ...quiet, inject('packed').tarball], { folder });
    // Of itself the clinic's gateway is not believed.
    const believed = { SPANTRAIL_RECEIVE_VOUCHING_PEERS: '["127.0.0.1/32"]' };
    spantrail = await startProcess(['--data-dir', join(folder, 'data')], believed);
  }, MS_MAX);
  afterAll(async () => {
    await spantrail?.stop('SIGKILL');
    await rm(folder, { recursive: true, force: true });
  });

  const run = (major: 22 | 24, program: string, ...words: string[]) => {
    const environment = { PATH: `${nodes[major]}${delimiter}${process.env['PATH']}` };
    return runProgram(program, words, { folder, environment });
  };
  const npx = (major: 22 | 24, ...words: string[]) => run(major, 'npx', ...words);

  it.concurrent.each([22, 24] as const)(
    'has a whole day of the demo on Node %i',
    { timeout: MS_MAX },
    async (major) => {
      expect(await run(major, 'node', '--version')).toMatch(new RegExp(`^v${major}\\.`));
      const said = await npx(major, 'spantrail', 'demo', '--once');
      for (const { title } of EXPECTED) expect(said).toContain(`there    ${title}`);
    },
  );

  it.concurrent('sends the clinic alone wherever it is told to', { timeout: MS_MAX }, async () => {
    if (!spantrail) throw new Error('not started');
    await npx(24, 'spantrail', 'demo', '--once', '--to', `http://127.0.0.1:${spantrail.grpc}`);
    await spantrail.settled();
    for (const { title, query, inner, holds } of EXPECTED) {
      const records = await spantrail.search(query, inner === true);
      expect(records.some(holds), title).toBe(true);
    }
    await expect(npx(24, 'spantrail', 'demo', '--to', 'collector:4317')).rejects.toThrow('is no OTLP gRPC endpoint');
  });
});
