import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { runProgram } from '../setup/cache.ts';
import { type InstalledPackage, installPackage } from '../setup/installed-package.ts';
import { startProgram } from '../setup/program.ts';

const tools = inject('packageTools');
const UNIT = join(import.meta.dirname, '../../deploy/systemd/spantrail.service');
const unit = readFileSync(UNIT, 'utf8');
/** Of 10, where 10 is a service that may do everything. */
const EXPOSURE_MAX = 2;

/** The values of a key, in order. */
function valuesOf(key: string): string[] {
  return [...unit.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map(([, value = '']) => value);
}

/**
 * What the unit asks of systemd, as far as it goes without one: a root that cannot be written to but for the state folder, /proc with
 * processes alone, and no rights. `$1` is that folder.
 */
const CONFINED = `
mount --make-rprivate /
mount --bind "$1" "$1"
mount -o remount,bind,ro /
mount -t proc -o subset=pid proc /proc
shift
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$@"`;

describe.skipIf('skipped' in tools)('the unit for systemd', () => {
  let installed: InstalledPackage;
  let state = '';
  beforeAll(async () => {
    installed = await installPackage(inject('packed').tarball, []);
    state = join(installed.folder, 'state');
    mkdirSync(state);
    mkdirSync(join(installed.folder, 'etc'));
  });
  afterAll(() => installed?.remove());

  it('has no mistakes, and leaves open what is needed and no more', async () => {
    const { stderr } = await promisify(execFile)('systemd-analyze', ['verify', '--recursive-errors=no', UNIT]);
    // The program that it starts need not be on this machine.
    expect(stderr.split('\n').filter((line) => line !== '' && !line.includes('is not executable'))).toEqual([]);
    const security = await runProgram('systemd-analyze', ['security', '--offline=true', '--no-pager', UNIT]);
    const [, exposure = ''] = /Overall exposure level .*: ([\d.]+)/.exec(security) ?? [];
    expect(Number(exposure)).toBeLessThan(EXPOSURE_MAX);
  });

  /** The line that it starts, with the places of a machine as folders of this test. */
  function commandLine(): string[] {
    const [line = ''] = valuesOf('ExecStart');
    return line
      .replace('/usr/bin/node', process.execPath)
      .replace('/opt/spantrail', installed.folder)
      .replace('/etc/spantrail', join(installed.folder, 'etc'))
      .split(' ');
  }

  function environment(): NodeJS.ProcessEnv {
    const pairs = valuesOf('Environment').flatMap((line) => line.split(' ').map((pair) => pair.split('=')));
    return { ...Object.fromEntries(pairs), PATH: process.env['PATH'], SPANTRAIL_DATA_DIR: state };
  }

  const unshare = [
    '--mount',
    '--pid',
    '--fork',
    '--kill-child',
    ...(process.getuid?.() === 0 ? [] : ['--map-root-user']),
  ];

  it('starts, and needs nothing but its state folder', async () => {
    expect(valuesOf('Environment').join(' ')).toContain(`SPANTRAIL_DATA_DIR=/var/lib/${valuesOf('StateDirectory')[0]}`);
    const ports = 'receive: { grpc: { port: 0 }, http: { port: 0 } }\napi: { port: 0 }\n';
    writeFileSync(join(installed.folder, 'etc/spantrail.yaml'), ports);
    const confined = (...words: string[]) => [...unshare, 'sh', '-ec', CONFINED, 'sh', state, ...words];
    const elsewhere = runProgram('unshare', confined('touch', join(installed.folder, 'elsewhere')));
    await expect(elsewhere).rejects.toThrow('Read-only file system');
    const isReady = /^(\{"ready":true.*\})$/m;
    const running = await startProgram('unshare', confined(...commandLine()), isReady, { environment: environment() });
    try {
      const { api, http } = JSON.parse(running.ready[1] ?? '');
      expect((await fetch(`http://127.0.0.1:${api}/readyz`)).status).toBe(200);
      const headers = { 'content-type': 'application/x-protobuf' };
      expect((await fetch(`http://127.0.0.1:${http}/v1/traces`, { method: 'POST', headers })).status).toBe(200);
    } finally {
      await running.stop();
    }
  });

  it('is not started again and again with settings that cannot work', async () => {
    writeFileSync(join(installed.folder, 'etc/spantrail.yaml'), 'recieve: {}\n');
    const [program = '', ...words] = commandLine();
    const failure = promisify(execFile)(program, words, { env: environment() });
    await expect(failure).rejects.toMatchObject({ code: Number(valuesOf('RestartPreventExitStatus')[0]) });
    await expect(failure).rejects.toThrow('recieve');
  });
});
