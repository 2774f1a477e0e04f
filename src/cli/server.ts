import { type Command, InvalidArgumentError, Option } from 'commander';
import { loadSettings } from '../config/load.ts';
import type { Settings } from '../config/schema.ts';
import { AppError } from '../core/errors.ts';
import { type Connection, connect, provingItself } from './connection.ts';
import type { Terminal } from './main.ts';

interface ServeOptions {
  readonly config?: string;
  readonly dataDir?: string;
  readonly grpcPort?: number;
  readonly httpPort?: number;
  readonly apiPort?: number;
  readonly store?: string;
  readonly elasticsearchUrl?: string;
  readonly workers?: number;
  readonly insecure?: boolean;
}

interface KibanaSetUpOptions {
  readonly kibana?: string;
  readonly kibanaSpace?: string;
  readonly traceUrl?: string;
}

/**
 * The commands that run or prepare Spantrail itself. What they run is loaded when they are called, so that a mere question
 * (`search`, `show`) does not wait for stores and servers to load.
 */
export function addServerCommands(program: Command, terminal: Terminal): void {
  const store = () =>
    new Option('--store <type>', 'where records go').choices(['duckdb', 'elasticsearch', 'memory', 'null']);
  const configured = (command: Command) =>
    command
      .option('--config <file>', 'settings (YAML); see "spantrail config example"')
      .option('--data-dir <folder>', 'write-ahead log and embedded store')
      .addOption(store())
      .option('--elasticsearch-url <url>', 'a node of the cluster');

  configured(program.command('serve'))
    .description('Receive, join, store and answer until stopped')
    .option('--grpc-port <n>', 'OTLP over gRPC (4317; 0 for any)', toPort)
    .option('--http-port <n>', 'OTLP over HTTP (4318; 0 for any)', toPort)
    .option('--api-port <n>', 'HTTP API and page (4320; 0 for any)', toPort)
    .option('--workers <n>', 'threads that join and settle (1 to 64)', toWorkers)
    .option('--insecure', 'let other machines in without TLS and authentication (docs/senders.md)')
    .action(async (options: ServeOptions) => {
      const { serve } = await import('../app/lifecycle.ts');
      await serve(toSettings(options, terminal), terminal);
    });

  configured(program.command('setup'))
    .description('Install what the store needs (Elasticsearch templates, DuckDB tables), or the dashboards of Kibana')
    .option('--overwrite', 'replace templates that somebody changed by hand')
    .option('--kibana <url>', 'import data view, searches and dashboards there instead')
    .option('--kibana-space <id>', 'into this space (the default one)')
    .option('--trace-url <template>', 'where a trace id leads in Kibana, with ${trace_id} (enrich.traceUrlTemplate)')
    .action(async (options: ServeOptions & KibanaSetUpOptions & { overwrite?: boolean }) => {
      const settings = toSettings(options, terminal);
      if (options.kibana !== undefined) return setUpKibana({ ...options, kibana: options.kibana }, settings, terminal);
      if (options.kibanaSpace !== undefined || options.traceUrl !== undefined) {
        throw new AppError('usage', '--kibana-space and --trace-url say how to import into the Kibana of --kibana');
      }
      const { setUpStore } = await import('../app/stores.ts');
      const findings = await setUpStore(settings, { overwrite: options.overwrite === true });
      for (const text of findings) terminal.write(`note  ${text}\n`);
      terminal.write(`${settings.store.type} is set up\n`);
    });

  provingItself(configured(program.command('doctor')))
    .description('Check settings, folder, ports, store and the running Spantrail')
    .option('--url <url>', 'a running Spantrail (or SPANTRAIL_URL)')
    .action(async (options: ServeOptions & Connection) => {
      const { runDoctor } = await import('../app/doctor.ts');
      const healthy = await runDoctor({
        settings: toSettings(options, terminal),
        url: options.url ?? (terminal.environment['SPANTRAIL_URL'] || undefined),
        ask: (url, signal) => connect({ ...options, url }, terminal).get('/api/v1/pipeline', {}, signal),
        terminal,
      });
      if (!healthy) throw new AppError('internal', 'something needs attention, see above');
    });

  program
    .command('demo')
    .description('A small clinic, instrumented by OpenTelemetry alone, and the audit trail of its day')
    .option('--once', 'end after checking that the expected records are there')
    .addOption(store().default('duckdb'))
    .option('--elasticsearch-url <url>', 'a node of the cluster')
    .option('--to <endpoint>', 'the clinic alone, day after day, sending there (OTLP gRPC, e.g. a Collector)')
    .action(async (options: { once?: boolean; store: string; elasticsearchUrl?: string; to?: string }) => {
      const { runDemo } = await import('../app/demo/demo.ts');
      await runDemo({ ...options, once: options.once === true, terminal });
    });
}

async function setUpKibana(
  options: KibanaSetUpOptions & { readonly kibana: string },
  settings: Settings,
  terminal: Terminal,
): Promise<void> {
  const { importIntoKibana } = await import('../app/kibana.ts');
  const { objects, version, dashboardUrl } = await importIntoKibana({
    url: options.kibana,
    space: options.kibanaSpace,
    traceUrl: options.traceUrl ?? settings.enrich.traceUrlTemplate,
    environment: terminal.environment,
  });
  terminal.write(
    `Kibana${version === undefined ? '' : ` ${version}`} has ${objects} objects of Spantrail: ${dashboardUrl}\n`,
  );
}

function toPort(text: string): number {
  return toWholeNumber(text, 0, 65_535);
}

function toWorkers(text: string): number {
  return toWholeNumber(text, 1, 64);
}

function toWholeNumber(text: string, least: number, most: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : -1;
  if (value < least || value > most) throw new InvalidArgumentError(`must be ${least} to ${most}`);
  return value;
}

function toSettings(options: ServeOptions, terminal: Terminal): Settings {
  const impliedStore = options.store ?? (options.elasticsearchUrl === undefined ? undefined : 'elasticsearch');
  return loadSettings({
    file: options.config ?? (terminal.environment['SPANTRAIL_CONFIG'] || undefined),
    environment: terminal.environment,
    overrides: {
      dataDir: options.dataDir,
      workers: options.workers,
      insecure: options.insecure,
      'receive.grpc.port': options.grpcPort,
      'receive.http.port': options.httpPort,
      'api.port': options.apiPort,
      'store.type': impliedStore,
      'store.elasticsearch.urls': options.elasticsearchUrl === undefined ? undefined : [options.elasticsearchUrl],
    },
  });
}
