import { readFile } from 'node:fs/promises';
import type { TestProject } from 'vitest/node';
import { type Agents, provideAgents } from './agents.ts';
import { type BrowserBinary, provideBrowser } from './browser.ts';
import { type CollectorBinary, provideCollector } from './collector.ts';
import { ELASTICSEARCH_VERSIONS, type ElasticsearchVersion, startElasticsearch } from './elasticsearch.ts';
import { type SecureElasticsearch, startSecureElasticsearch } from './elasticsearch-secure.ts';
import { type PackageTools, providePackageTools } from './package-tools.ts';
import { type PackedPackage, packPackage } from './packed.ts';
import { type PolicyEngineBinary, providePolicyEngine } from './policy-engine.ts';
import { findPostgres, type PostgresBinaries } from './postgres.ts';
import { type PromtoolBinary, providePromtool } from './promtool.ts';
import type { RequirementName, Skipped } from './require.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The URL of a running server of each version, or why there is none. */
    elasticsearch: Readonly<Record<ElasticsearchVersion, { readonly url: string } | Skipped>>;
    /** One of each version, with security and TLS on, for tests that ask for it by `inject('secureElasticsearch')`. */
    secureElasticsearch: Readonly<Record<ElasticsearchVersion, SecureElasticsearch | Skipped>>;
    collector: CollectorBinary | Skipped;
    agents: Agents | Skipped;
    browser: BrowserBinary | Skipped;
    postgres: PostgresBinaries | Skipped;
    policyEngine: PolicyEngineBinary | Skipped;
    promtool: PromtoolBinary | Skipped;
    packed: PackedPackage;
    packageTools: PackageTools | Skipped;
  }
}

const stops: (() => Promise<void>)[] = [];
const skips = new Map<RequirementName, string>();

/** Starts what the test files of this run ask for (`inject('elasticsearch')`), once for all of them. */
export async function setup(project: TestProject): Promise<void> {
  const texts = await Promise.all(project.vitest.state.getPaths().map((path) => readFile(path, 'utf8')));
  const isAskedFor = (
    name: RequirementName | 'agents' | 'policyEngine' | 'promtool' | 'packed' | 'packageTools' | 'secureElasticsearch',
  ) => texts.some((text) => text.includes(`inject('${name}')`));
  try {
    if (isAskedFor('collector')) {
      const collector = await provideCollector();
      if ('skipped' in collector) skips.set('collector', collector.skipped);
      project.provide('collector', collector);
    }
    if (isAskedFor('browser')) {
      const browser = await provideBrowser();
      if ('skipped' in browser) skips.set('browser', browser.skipped);
      project.provide('browser', browser);
    }
    if (isAskedFor('agents')) {
      const agents = await provideAgents();
      if ('skipped' in agents) skips.set('collector', agents.skipped);
      project.provide('agents', agents);
    }
    if (isAskedFor('policyEngine')) {
      const policyEngine = await providePolicyEngine();
      if ('skipped' in policyEngine) skips.set('collector', policyEngine.skipped);
      project.provide('policyEngine', policyEngine);
    }
    if (isAskedFor('promtool')) {
      const promtool = await providePromtool();
      if ('skipped' in promtool) skips.set('prometheus', promtool.skipped);
      project.provide('promtool', promtool);
    }
    if (isAskedFor('packageTools')) {
      const packageTools = await providePackageTools();
      if ('skipped' in packageTools) skips.set('packages', packageTools.skipped);
      project.provide('packageTools', packageTools);
    }
    if (isAskedFor('packed')) {
      const packed = await packPackage();
      stops.push(packed.remove);
      project.provide('packed', { tarball: packed.tarball });
    }
    if (isAskedFor('postgres')) {
      const postgres = await findPostgres();
      if ('skipped' in postgres) skips.set('postgres', postgres.skipped);
      project.provide('postgres', postgres);
    }
    if (isAskedFor('secureElasticsearch')) project.provide('secureElasticsearch', await startSecured(texts));
    if (isAskedFor('elasticsearch')) project.provide('elasticsearch', await startAll(texts));
  } catch (error) {
    await teardown();
    throw error;
  }
}

/** Ends the servers and says, as the last lines of the run, what was skipped and how to have it. */
export async function teardown(): Promise<void> {
  await Promise.all(stops.splice(0).map((stop) => stop()));
  for (const [name, reason] of skips) {
    process.stderr.write(`\nSKIPPED ${name}: ${reason}.\n  To have it: SPANTRAIL_REQUIRE=${name} npm test\n`);
  }
  skips.clear();
}

type Started<T> = Readonly<Record<ElasticsearchVersion, T | Skipped>>;

function startAll(texts: readonly string[]): Promise<Started<{ url: string }>> {
  return startNamed(
    texts,
    (version) => `['${version}']`,
    async (version) => {
      const server = await startElasticsearch(version);
      if ('skipped' in server) return server;
      stops.push(() => server.stop());
      return { url: server.url };
    },
  );
}

function startSecured(texts: readonly string[]): Promise<Started<SecureElasticsearch>> {
  return startNamed(
    texts,
    (version) => `describeSecured('${version}'`,
    async (version) => {
      const running = await startSecureElasticsearch(version);
      if ('skipped' in running) return running;
      stops.push(() => running.stop());
      return running.server;
    },
  );
}

/** Servers of the versions that a test file names in this way. */
async function startNamed<T>(
  texts: readonly string[],
  nameOf: (version: ElasticsearchVersion) => string,
  start: (version: ElasticsearchVersion) => Promise<T | Skipped>,
): Promise<Started<T>> {
  const versions = ELASTICSEARCH_VERSIONS.filter((version) => texts.some((text) => text.includes(nameOf(version))));
  const starting = versions.map(async (version) => {
    const server = await start(version);
    if (typeof server === 'object' && server !== null && 'skipped' in server) {
      skips.set('elasticsearch', String(server.skipped));
    }
    return [version, server] as const;
  });
  // All are waited for, also when one fails: those that run must be ended.
  const settled = await Promise.allSettled(starting);
  const failed = settled.find((result) => result.status === 'rejected');
  if (failed) throw failed.reason;
  const started = settled.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  return Object.fromEntries(started) as Started<T>;
}
