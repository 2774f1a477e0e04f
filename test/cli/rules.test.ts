import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RunningApi, startApi } from '../../src/api/server.ts';
import { MemoryStore } from '../../src/store/memory.ts';
import { apiNeeds } from '../api/needs.ts';
import { recordOf } from '../detect/world.ts';
import { toWrite } from '../fixtures/records.ts';

const RULE =
  "- { id: often, name: Often, type: threshold, severity: low, query: 'event.outcome: failure', group_by: user.id, window: 5m, threshold: { value: 3 } }\n";

let folder = '';
let api: RunningApi;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spantrail-cli-rules-'));
  await writeFile(join(folder, 'good.yaml'), RULE);
  await writeFile(join(folder, 'bad.yaml'), RULE.replace('low', 'lo').replace('user.id', 'user.idd'));
  const store = new MemoryStore();
  await store.write([0, 10, 20, 30].map((at) => toWrite(recordOf({ id: `failed${at}`, at, outcome: 'failure' }))));
  api = await startApi(
    { host: '127.0.0.1', port: 0 },
    apiNeeds({ store, clock: { nowMs: () => Date.UTC(2026, 10, 24) } }),
  );
});
afterAll(async () => {
  await api.close();
  await rm(folder, { recursive: true });
});

function rules(...args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const program = [join(import.meta.dirname, '../../src/cli/spantrail.mjs'), 'rules', ...args];
  const environment = { ...process.env, SPANTRAIL_URL: `http://127.0.0.1:${api.port}` };
  return new Promise((resolve) => {
    execFile(process.execPath, program, { cwd: folder, env: environment }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr });
    });
  });
}

describe('spantrail rules', () => {
  it('checks files, and says where they are wrong', async () => {
    expect(await rules('check', 'good.yaml')).toMatchObject({ code: 0, stdout: '1 rule is right\n' });
    const { code, stderr } = await rules('check', 'bad.yaml');
    expect(code).toBe(1);
    expect(stderr).toContain('bad.yaml:1:56: rule often, severity: must be low, medium, high, critical');
  });

  it('says when a rule has the id of one that is at work', async () => {
    await writeFile(join(folder, 'taken.yaml'), RULE.replace('id: often', 'id: mass-read'));
    const { code, stderr } = await rules('check', 'taken.yaml');
    expect(code).toBe(1);
    expect(stderr).toMatch(/taken\.yaml:1:1: rule mass-read, id: a rule in deploy\/rules\/\S+:\d+ has it/);
    await writeFile(join(folder, 'settings.yaml'), 'detect: { rules: { files: [good.yaml] } }\n');
    expect(await rules('check', 'good.yaml', '--config', 'settings.yaml')).toMatchObject({ code: 0 });
  });

  it('tests a rule over what a running Spantrail has stored', async () => {
    const { code, stdout } = await rules('test', './good.yaml', '--from', '2026-11-23');
    expect(code).toBe(0);
    expect(stdout).toContain('2026-11-23 12:00:20.000  low       often: Often: 4 within 5 min (user.id alice)');
    expect(stdout).toContain('1 alert from 4 matches in 4 records');
    const json = await rules('test', './good.yaml', '--from', '2026-11-23', '--json');
    expect(JSON.parse(json.stdout)).toMatchObject({
      count: 4,
      records: ['failed0', 'failed10', 'failed20', 'failed30'],
    });
  });

  it('lists what is at work, and says so when nothing is', async () => {
    expect(await rules()).toMatchObject({ code: 0, stdout: '', stderr: expect.stringContaining('switched off') });
  });
});
