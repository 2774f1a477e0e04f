/**
 * A real PostgreSQL with pgaudit for tests: Debian's packages `postgresql` and `postgresql-<version>-pgaudit`. Each test has a
 * cluster of its own, made in a temporary folder and removed afterwards.
 */
import { execFile } from 'node:child_process';
import { appendFile, chown, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { freePort } from '../collector/traffic.ts';
import { exists } from './cache.ts';
import { startProgram } from './program.ts';
import { lacking, type Skipped } from './require.ts';

const run = promisify(execFile);

/** Where Debian has the versions. */
const VERSIONS = '/usr/lib/postgresql';

/** The oldest that writes its log as JSON. */
const VERSION_MIN = 15;

/** It refuses to run as root; root's tests run it as `nobody`. */
const NOBODY = 65_534;

const READY_MS_MAX = 30_000;

export interface PostgresBinaries {
  /** Folder of `initdb`, `postgres`, `psql`. */
  readonly bin: string;
}

export async function findPostgres(): Promise<PostgresBinaries | Skipped> {
  const versions = (await readdir(VERSIONS).catch(() => [])).filter((version) => Number(version) >= VERSION_MIN);
  for (const version of versions.sort((left, right) => Number(left) - Number(right))) {
    const has = (path: string) => exists(join(VERSIONS, version, path));
    if ((await has('bin/initdb')) && (await has('lib/pgaudit.so'))) return { bin: join(VERSIONS, version, 'bin') };
  }
  return lacking(
    'postgres',
    `PostgreSQL ${VERSION_MIN} with pgaudit is not installed: apt-get install postgresql-15-pgaudit`,
  );
}

export interface RunningPostgres {
  readonly port: number;
  /** The folder of its log. */
  readonly logFolder: string;
  /** For `DATABASE_URL`. */
  url(user: string, database: string): string;
  /** Runs statements with psql, as a person at a terminal; resolves with what it printed, errors included. */
  psql(user: string, database: string, ...statements: readonly string[]): Promise<string>;
  stop(): Promise<void>;
}

/** Starts a cluster with these settings (the text of postgresql.conf). Anyone on this machine may log in as anyone. */
export async function startPostgres({ bin }: PostgresBinaries, settings: string): Promise<RunningPostgres> {
  const folder = await mkdtemp(join(tmpdir(), 'spantrail-postgres-'));
  const user = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  if ('uid' in user) await chown(folder, NOBODY, NOBODY);
  const data = join(folder, 'data');
  const remove = () => rm(folder, { recursive: true, force: true });
  try {
    const options = ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-sync'];
    await run(join(bin, 'initdb'), options, { ...user, cwd: folder });
    const port = await freePort();
    const here = `listen_addresses = '127.0.0.1'\nport = ${port}\nunix_socket_directories = ''\nfsync = off\n`;
    await appendFile(join(data, 'postgresql.conf'), `${settings}\n${here}`);
    const program = await startProgram(join(bin, 'postgres'), ['-D', data], /redirecting log|ready to accept/, {
      ...('uid' in user ? { user: NOBODY } : {}),
      folder,
    });
    const url = (name: string, database: string) => `postgresql://${name}@127.0.0.1:${port}/${database}`;
    await untilReady(url('postgres', 'postgres'));
    return {
      port,
      logFolder: join(data, 'log'),
      url,
      psql: async (name, database, ...statements) => {
        const commands = statements.flatMap((statement) => ['-c', statement]);
        const given = ['-X', '-q', '-d', url(name, database), ...commands];
        const { stdout, stderr } = await run(join(bin, 'psql'), given).catch(
          (failure: { stdout: string; stderr: string }) => failure,
        );
        return stdout + stderr;
      },
      stop: () => program.stop('SIGINT').finally(remove),
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function untilReady(url: string): Promise<void> {
  const until = performance.now() + READY_MS_MAX;
  for (;;) {
    const client = new pg.Client({ connectionString: url });
    try {
      await client.connect();
      await client.end();
      return;
    } catch (error) {
      if (performance.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
