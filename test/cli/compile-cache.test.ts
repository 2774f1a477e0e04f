import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const run = promisify(execFile);
const CHECKOUT = join(import.meta.dirname, '../..');
const PROGRAM = join(CHECKOUT, 'src/cli/spantrail.mjs');
/** Files of Spantrail's own that a server has, at the least; what it depends on has more. */
const COMPILED_MIN = 400;

let folder = '';
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spantrail-compiled-'));
});
afterEach(() => rm(folder, { recursive: true }));

const versionWith = async (environment: Record<string, string>) => {
  const { stdout } = await run(process.execPath, [PROGRAM, '--version'], { env: { ...environment } });
  return stdout.trim();
};

const kept = () => readdir(join(folder, 'spantrail', 'compiled'));

describe('what V8 compiled', () => {
  it('is kept for the next start, for this user alone', async () => {
    expect(await versionWith({ XDG_CACHE_HOME: folder })).toMatch(/^\d/);
    expect(await kept()).toHaveLength(1);
    for (const path of ['spantrail', 'spantrail/compiled']) {
      expect((await stat(join(folder, path))).mode & 0o777).toBe(0o700);
    }
    expect(await versionWith({ XDG_CACHE_HOME: folder })).toMatch(/^\d/);
  });

  it('is kept nowhere where somebody else could write, or where nothing can be', async () => {
    await versionWith({ XDG_CACHE_HOME: folder });
    await rm(join(folder, 'spantrail', 'compiled'), { recursive: true });
    const elsewhere = await mkdtemp(join(folder, 'elsewhere-'));
    await symlink(elsewhere, join(folder, 'spantrail', 'compiled'));
    expect(await versionWith({ XDG_CACHE_HOME: folder })).toMatch(/^\d/);
    expect(await readdir(elsewhere)).toEqual([]);
    await rm(join(folder, 'spantrail'), { recursive: true });
    await versionWith({ XDG_CACHE_HOME: folder });
    const [version = ''] = await kept();
    await rm(join(folder, 'spantrail', 'compiled', version), { recursive: true });
    await chmod(join(folder, 'spantrail', 'compiled'), 0o770);
    expect(await versionWith({ XDG_CACHE_HOME: folder })).toMatch(/^\d/);
    expect(await kept()).toEqual([]);
    expect(await versionWith({ XDG_CACHE_HOME: '/dev/null' })).toMatch(/^\d/);
  });

  it('is there for the first start, since `npm ci` compiles what serves', async () => {
    const manifest = JSON.parse(await readFile(join(CHECKOUT, 'package.json'), 'utf8')) as {
      scripts: { prepare: string };
    };
    const compile = /node (\S+compile\.mjs)$/.exec(manifest.scripts.prepare)?.[1] ?? '';
    await run(process.execPath, [join(CHECKOUT, compile)], { env: { XDG_CACHE_HOME: folder } });
    const [version = ''] = await kept();
    expect((await readdir(join(folder, 'spantrail', 'compiled', version))).length).toBeGreaterThan(COMPILED_MIN);
  });

  it('is kept where Node is told to', async () => {
    await versionWith({ XDG_CACHE_HOME: folder, NODE_COMPILE_CACHE: join(folder, 'told') });
    expect(await readdir(folder)).toEqual(['told']);
  });
});
