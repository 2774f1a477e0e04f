/**
 * OpenTelemetry's own agents for Python and Java, with what the services in test/fixtures/services need: a virtual environment
 * from PyPI and two jars from Maven Central, fetched once a machine into the cache, under the versions that are asked for. They
 * are required whenever the Collector is.
 */
import { createHash } from 'node:crypto';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder, exists, isInstalled, runProgram } from './cache.ts';
import { lacking, requirement, type Skipped } from './require.ts';

const PYTHON = [
  'opentelemetry-distro==0.66b1',
  'opentelemetry-exporter-otlp-proto-grpc==1.45.1',
  'opentelemetry-instrumentation-flask==0.66b1',
  'opentelemetry-instrumentation-psycopg==0.66b1',
  'flask==3.1.3',
  'psycopg[binary]==3.3.9',
  'mcp==2.3.0',
];
const JARS = {
  agent: { group: 'io.opentelemetry.javaagent', name: 'opentelemetry-javaagent', version: '2.33.1' },
  driver: { group: 'org.postgresql', name: 'postgresql', version: '42.7.8' },
} as const;
/** So that a cache is not mistaken for another version's. */
const KEY_CHARS = 16;

export interface Agents {
  /** Folder of the virtual environment's programs. */
  readonly python: string;
  /** Paths of the javaagent and of the driver for PostgreSQL. */
  readonly java: { readonly agent: string; readonly driver: string };
}

export async function provideAgents(): Promise<Agents | Skipped> {
  const python = await providePython();
  if (typeof python !== 'string') return python;
  const java = await provideJava();
  return 'skipped' in java ? java : { python, java };
}

async function providePython(): Promise<string | Skipped> {
  const key = createHash('sha256').update(PYTHON.join('\n')).digest('hex').slice(0, KEY_CHARS);
  const folder = join(await cacheFolder('python'), key);
  const bin = join(folder, 'bin');
  // Its programs hold its path, so it is made where it stays; the mark comes last.
  const mark = join(folder, 'complete');
  if (await exists(mark)) return bin;
  if (!(await isInstalled('python3'))) return lacking('collector', 'not installed: Python 3 (python3, python3-venv)');
  if (requirement('collector') === 'optional') return { skipped: "OpenTelemetry's Python agent has not been fetched" };
  await rm(folder, { recursive: true, force: true });
  await runProgram('python3', ['-m', 'venv', folder]);
  await runProgram(join(bin, 'python'), ['-m', 'pip', 'install', '--quiet', ...PYTHON]);
  await writeFile(mark, '');
  return bin;
}

async function provideJava(): Promise<Agents['java'] | Skipped> {
  const folder = await cacheFolder('java');
  const paths = { agent: '', driver: '' };
  for (const part of ['agent', 'driver'] as const) {
    const { group, name, version } = JARS[part];
    const file = `${name}-${version}.jar`;
    paths[part] = join(folder, file);
    if (await exists(paths[part])) continue;
    for (const program of ['java', 'mvn']) {
      if (!(await isInstalled(program))) return lacking('collector', `not installed: ${program}, for the Java agent`);
    }
    if (requirement('collector') === 'optional') return { skipped: "OpenTelemetry's Java agent has not been fetched" };
    const partial = await mkdtemp(join(folder, 'partial-'));
    const artifact = `-Dartifact=${group}:${name}:${version}`;
    await runProgram('mvn', ['-q', '-B', 'dependency:copy', artifact, `-DoutputDirectory=${partial}`]);
    await rename(join(partial, file), paths[part]);
    await rm(partial, { recursive: true });
  }
  return paths;
}
