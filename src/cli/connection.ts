import { type Command, Option } from 'commander';
import { type Client, createClient } from './client.ts';
import type { Terminal } from './main.ts';

const DEFAULT_URL = 'http://127.0.0.1:4320';

/** What every command takes that asks a running Spantrail. */
export interface Connection {
  readonly url?: string;
  readonly json?: boolean;
}

export function connect(options: Connection, terminal: Terminal): Client {
  return createClient(options.url ?? (terminal.environment['SPANTRAIL_URL'] || DEFAULT_URL));
}

export function asking(command: Command): Command {
  return command.addOption(new Option('--url <url>', `a running Spantrail (or SPANTRAIL_URL; ${DEFAULT_URL})`));
}
