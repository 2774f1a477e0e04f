/**
 * A real Elasticsearch for tests: the server of Maven Central's integ-test-zip (no licensed modules, no bundled Java), unpacked
 * into a folder of its own for each run and removed afterwards. About 1 GB of memory and ten seconds to start.
 */
import { chown, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cacheFolder, exists, isInstalled, runProgram } from './cache.ts';
import { startProgram } from './program.ts';
import { lacking, requirement, type Skipped } from './require.ts';

export const ELASTICSEARCH_VERSIONS = ['9.5.0', '8.19.0'] as const;

export type ElasticsearchVersion = (typeof ELASTICSEARCH_VERSIONS)[number];

/** Lowest Java each version starts on, and the one it prefers when several are installed. */
const JAVA: Readonly<Record<ElasticsearchVersion, { lowest: number; preferred: number }>> = {
  '9.5.0': { lowest: 21, preferred: 25 },
  '8.19.0': { lowest: 17, preferred: 17 },
};

/** The port that the server prints, and the line after which it answers there. */
const LISTENING = /HttpServerTransport.*publish_address \{[^}]*:(\d+)\}[\s\S]* started \{/;

/** Ten seconds on a quiet machine; several at once on one where everything else runs, too, take minutes. */
const START_MS_MAX = 300_000;

/** It refuses to run as root; root's tests run it as `nobody`. */
const NOBODY = 65_534;

export interface ServerOptions {
  /** Lines of elasticsearch.yml that replace those of an open single node with the same name, or come after them. */
  readonly settings?: readonly string[];
  /** Where it lies, and stays with what it holds when it is stopped; by default in a folder of its own, which is then removed. */
  readonly folder?: string;
  /** MiB of Java's heap. */
  readonly heapMib?: number;
  /** Writes further files below the server's folder (users, certificates), before they get their owner. */
  readonly prepare?: (home: string) => Promise<void>;
}

export interface RunningServer {
  /** With the loopback address, whatever the server calls itself; https when its settings switch that on. */
  readonly url: string;
  /** Ends it and keeps what it holds, so that it can be started again at the same address. */
  halt(signal?: NodeJS.Signals): Promise<void>;
  resume(): Promise<void>;
  /** Ends it and removes its folder, unless that was given. */
  stop(): Promise<void>;
}

/** Starts one server on free ports of the loopback address. */
export async function startElasticsearch(
  version: ElasticsearchVersion,
  { settings = [], folder: given, heapMib = 768, prepare }: ServerOptions = {},
): Promise<RunningServer | Skipped> {
  const javaHome = await findJava(version);
  if (!javaHome)
    return lacking('elasticsearch', `Elasticsearch ${version} needs Java ${JAVA[version].lowest} or newer`);
  const archive = await findArchive(version);
  if (typeof archive !== 'string') return archive;
  const folder = given ?? (await mkdtemp(join(tmpdir(), `spantrail-elasticsearch-${version}-`)));
  const home = join(folder, `elasticsearch-${version}`);
  const remove = async () => {
    if (given === undefined) await rm(folder, { recursive: true, force: true });
  };
  const isSecured = settings.includes('xpack.security.http.ssl.enabled: true');
  try {
    if (!(await exists(home))) await runProgram('unzip', ['-q', archive, '-d', folder]);
    await prepare?.(home);
    await configure(home, 0, settings);
    await giveAway(folder);
    const javaOptions = `-Xms${heapMib}m -Xmx${heapMib}m`;
    const environment = { ...process.env, ES_JAVA_HOME: javaHome, ES_JAVA_OPTS: javaOptions, HOME: home };
    const user = process.getuid?.() === 0 ? { user: NOBODY } : {};
    const options = { environment, ...user, startMsMax: START_MS_MAX };
    const start = () => startProgram(join(home, 'bin/elasticsearch'), [], LISTENING, options);
    let server = await start();
    const port = Number(server.ready[1]);
    return {
      url: `${isSecured ? 'https' : 'http'}://127.0.0.1:${port}`,
      halt: (signal) => server.stop(signal),
      resume: async () => {
        await configure(home, port, settings);
        server = await start();
      },
      stop: () => server.stop().finally(remove),
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function findJava(version: ElasticsearchVersion): Promise<string | undefined> {
  const installed = (await readdir('/usr/lib/jvm').catch(() => [])).map((name) => join('/usr/lib/jvm', name));
  const homes = [process.env['ES_JAVA_HOME'], process.env['JAVA_HOME'], ...installed].filter(
    (home) => home !== undefined,
  );
  const { lowest, preferred } = JAVA[version];
  const usable: { home: string; distance: number }[] = [];
  for (const home of homes) {
    const release = await readFile(join(home, 'release'), 'utf8').catch(() => '');
    const major = Number(/^JAVA_VERSION="(\d+)/m.exec(release)?.[1] ?? 0);
    if (major >= lowest) usable.push({ home, distance: Math.abs(major - preferred) });
  }
  return usable.sort((one, other) => one.distance - other.distance)[0]?.home;
}

async function findArchive(version: ElasticsearchVersion): Promise<string | Skipped> {
  const folder = await cacheFolder('dl');
  const archive = join(folder, `elasticsearch-${version}.zip`);
  const absent = [];
  if (!(await isInstalled('unzip'))) absent.push('unzip');
  if (await exists(archive)) return absent.length === 0 ? archive : lacking('elasticsearch', 'unzip is not installed');
  if (!(await isInstalled('mvn'))) absent.push('Maven (mvn)');
  if (absent.length > 0) return lacking('elasticsearch', `not installed: ${absent.join(', ')}`);
  if (requirement('elasticsearch') === 'optional') {
    return { skipped: `Elasticsearch ${version} has not been fetched (about 120 MB)` };
  }
  const partial = await mkdtemp(join(folder, 'partial-'));
  const artifact = `org.elasticsearch.distribution.integ-test-zip:elasticsearch:${version}:zip`;
  await runProgram('mvn', ['-q', '-B', 'dependency:copy', `-Dartifact=${artifact}`, `-DoutputDirectory=${partial}`]);
  await rename(join(partial, `elasticsearch-${version}.zip`), archive);
  await rm(partial, { recursive: true });
  return archive;
}

/** The server runs as another user when the tests run as root. */
async function giveAway(folder: string): Promise<void> {
  if (process.getuid?.() !== 0) return;
  await chown(folder, NOBODY, NOBODY);
  await runProgram('chown', ['-R', `${NOBODY}:${NOBODY}`, folder]);
}

async function configure(home: string, port: number, own: readonly string[]): Promise<void> {
  const named = new Set(own.map(nameOf));
  const usual = [
    'discovery.type: single-node',
    'network.host: 127.0.0.1',
    `http.port: ${port}`,
    'transport.port: 0',
    'xpack.security.enabled: false',
    // A test disk that is nearly full must not turn indices read-only.
    'cluster.routing.allocation.disk.threshold_enabled: false',
    // Many short-lived indices; the default is 1,000 a node.
    'cluster.max_shards_per_node: 5000',
  ];
  const lines = [...usual.filter((line) => !named.has(nameOf(line))), ...own];
  await writeFile(join(home, 'config/elasticsearch.yml'), `${lines.join('\n')}\n`);
}

function nameOf(line: string): string {
  return line.slice(0, line.indexOf(':'));
}
