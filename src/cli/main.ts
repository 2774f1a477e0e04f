import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import { readEnvironment } from '../config/environment.ts';
import { AppError, describeError, ERROR_CODES } from '../core/errors.ts';
import { addConfigCommands } from './config.ts';
import { addQueryCommands } from './query.ts';
import { addServerCommands } from './server.ts';

/** What every command gets: where it writes and what it may read. */
export interface Terminal {
  write(text: string): void;
  warn(text: string): void;
  readonly colours: boolean;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
}

const EXIT_USAGE = 2;
const EXIT_FAILURE = 1;

function createProgram(terminal: Terminal): Command {
  const program = new Command('spantrail')
    .description('An OTLP endpoint for accountability: one audit record per access, joined with its trace.')
    .version(terminal.version)
    .addOption(new Option('--no-color', 'no colours, also with NO_COLOR set or when the output is no terminal'))
    .showHelpAfterError('(spantrail --help lists the commands)')
    .addHelpText(
      'after',
      `
Examples:
  spantrail serve                                        receive on 4317 and 4318, answer on 4320
  spantrail search 'user.id: alice and event.outcome: failure' --from -1h
  spantrail show 3f2a9c01d4e5                            one record, with its path and why
  spantrail trace 3f2a9c01d4e5                           the whole request as a waterfall

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 verification failed, 5 unavailable.`,
    )
    .exitOverride();
  addServerCommands(program, terminal);
  addQueryCommands(program, terminal);
  addConfigCommands(program, terminal);
  return program;
}

async function run(terminal: Terminal): Promise<number> {
  try {
    await createProgram(terminal).parseAsync();
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
    if (error instanceof AppError) {
      terminal.warn(error.message);
      return ERROR_CODES[error.code].exit;
    }
    if ((error as NodeJS.ErrnoException).code === 'EPIPE') return 0;
    terminal.warn(`unexpected failure: ${describeError(error)}`);
    if (terminal.environment['SPANTRAIL_DEBUG'] && error instanceof Error) terminal.warn(error.stack ?? '');
    return EXIT_FAILURE;
  }
}

const environment = readEnvironment();
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

// A reader that went away (`| head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

process.exitCode = await run({
  write: (text) => void process.stdout.write(text),
  warn: (text) => void process.stderr.write(`spantrail: ${text}\n`),
  colours: process.stdout.isTTY === true && !environment['NO_COLOR'] && !process.argv.includes('--no-color'),
  environment,
  version,
});
