/**
 * Spantrail as others get it: packed by npm, unpacked below the node_modules of a folder of its own, where Node takes no types out of
 * anything. What it depends on is linked from this checkout, so that nothing is fetched.
 */
import { mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { runProgram } from './cache.ts';

export interface InstalledPackage {
  /** The folder of a project that has Spantrail installed. */
  readonly folder: string;
  /** What `npx spantrail` runs there. */
  readonly program: string;
  remove(): Promise<void>;
}

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
  readonly bin: { readonly spantrail: string };
}

const checkout = resolve(import.meta.dirname, '../..');

/** `tarball` is the packed package, `others` are packages that the project has beside Spantrail and what Spantrail needs. */
export async function installPackage(tarball: string, others: readonly string[]): Promise<InstalledPackage> {
  const folder = await mkdtemp(join(tmpdir(), 'spantrail-installed-'));
  const modules = join(folder, 'node_modules');
  const installed = join(modules, 'spantrail');
  await mkdir(installed, { recursive: true });
  await runProgram('tar', ['-xzf', tarball, '-C', installed, '--strip-components=1']);
  const manifest = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8')) as Manifest;
  const needed = { ...manifest.dependencies, ...manifest.optionalDependencies };
  for (const name of new Set([...Object.keys(needed), ...others])) {
    await mkdir(dirname(join(modules, name)), { recursive: true });
    await symlink(join(checkout, 'node_modules', name), join(modules, name));
  }
  return {
    folder,
    program: join(installed, manifest.bin.spantrail),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
