import { readFileSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { readEnvironment } from '../config/environment.ts';
import { AppError, describeError, ERROR_CODES } from '../core/errors.ts';
import { QueryMistake } from './client.ts';
import { addCommands } from './commands.ts';
import { caretLines, printable } from './format.ts';

/** What every command gets: where it writes and what it may read. */
export interface Terminal {
  write(text: string): void;
  /** A line for the person, beside the output. */
  warn(text: string): void;
  /** Standard output itself, for streams that must wait for a slow reader. */
  readonly output: Writable;
  readonly colours: boolean;
  /** Characters of a line; undefined when the output is no terminal. */
  readonly columns: number | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: string;
}

const EXIT_USAGE = 2;
const EXIT_FAILURE = 1;
const NO_COLOUR = '--no-color';

async function createProgram(terminal: Terminal, words: readonly string[]): Promise<Command> {
  const program = new Command('spantrail')
    .description('An OTLP endpoint for accountability: one audit record per access, joined with its trace.')
    .version(terminal.version)
    .addOption(new Option(NO_COLOUR, 'no colours, also with NO_COLOR set or when the output is no terminal'))
    .showHelpAfterError('(--help after the command lists what it takes)')
    .addHelpText(
      'after',
      `
Examples:
  spantrail serve                                        receive on 4317 and 4318, answer on 4320
  spantrail search 'user.id: alice and event.outcome: failure' --from -1h
  spantrail show 3f2a9c01d4e5                            one record, with its path and why
  spantrail trace 3f2a9c01d4e5                           the whole request as a waterfall
  spantrail coverage --from -1d                          what was seen of each service, and what is missing

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 verification failed, 5 unavailable.`,
    )
    .exitOverride();
  await addCommands(program, terminal, words);
  return program;
}

async function run(terminal: Terminal): Promise<number> {
  try {
    // Taken out here, so that it may stand anywhere on the line.
    const words = process.argv.slice(2).filter((word) => word !== NO_COLOUR);
    await (await createProgram(terminal, words)).parseAsync(words, { from: 'user' });
    return 0;
  } catch (error) {
    return explain(error, terminal);
  }
}

/** Says what went wrong, never where in the code. Answers the exit code. */
function explain(error: unknown, terminal: Terminal): number {
  // Thrown by a command itself; what commander finds, it has said already.
  if (error instanceof InvalidArgumentError) terminal.warn(error.message);
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  if (error instanceof AppError) {
    const where = error instanceof QueryMistake ? `\n${caretLines(error.query, error.column).join('\n')}` : '';
    terminal.warn(`${error.message}${where}`);
    return ERROR_CODES[error.code].exit;
  }
  if ((error as NodeJS.ErrnoException).code === 'EPIPE') return 0;
  terminal.warn(`unexpected failure: ${describeError(error)}`);
  if (terminal.environment['SPANTRAIL_DEBUG'] && error instanceof Error) terminal.warn(error.stack ?? '');
  return EXIT_FAILURE;
}

const environment = readEnvironment();
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};
const { stdout, stderr } = process;
const terminal: Terminal = {
  write: (text) => void stdout.write(text),
  warn: (text) => void stderr.write(`spantrail: ${text.split('\n').map(printable).join('\n')}\n`),
  output: stdout,
  colours:
    stdout.isTTY === true &&
    !environment['NO_COLOR'] &&
    environment['TERM'] !== 'dumb' &&
    !process.argv.includes(NO_COLOUR),
  columns: stdout.isTTY ? stdout.columns : undefined,
  environment,
  version,
};

// A reader that went away (`| head`) is no failure; a socket of the server that did is not the same thing.
stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(explain(error, terminal)));
process.on('uncaughtException', (error) => process.exit(explain(error, terminal) || EXIT_FAILURE));

process.exitCode = await run(terminal);
