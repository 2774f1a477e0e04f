import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { type Command, Option } from 'commander';
import { AppError, describeError } from '../core/errors.ts';
import { type Client, createClient, type Trust } from './client.ts';
import type { Terminal } from './main.ts';

const DEFAULT_URL = 'http://127.0.0.1:4320';

/** What every command takes that asks a running Spantrail. */
export interface Connection {
  readonly url?: string;
  readonly token?: string;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly json?: boolean;
}

/** `defaultUrl` is where it is looked for when nobody says so. */
export function connect(options: Connection, terminal: Terminal, defaultUrl = DEFAULT_URL): Client {
  const url = options.url ?? (terminal.environment['SPANTRAIL_URL'] || defaultUrl);
  const trust = readTrust(options, terminal);
  if (trust.token !== undefined && isInTheClear(url)) {
    terminal.warn(`the token goes to ${url} in the clear, for everybody on the way to read; https:// would hide it`);
  }
  return createClient(url, trust);
}

export function asking(command: Command): Command {
  return provingItself(
    command.addOption(new Option('--url <url>', `a running Spantrail (or SPANTRAIL_URL; ${DEFAULT_URL})`)),
  );
}

/** The options by which a command says who asks, and whom it believes to be answering. */
export function provingItself(command: Command): Command {
  return command
    .addOption(new Option('--token <token>', 'who asks (better in SPANTRAIL_TOKEN: others see a command line)'))
    .addOption(new Option('--ca <file>', 'PEM of the authority that signed the server’s certificate (or SPANTRAIL_CA)'))
    .addOption(new Option('--cert <file>', 'PEM of a client certificate, with --key (or SPANTRAIL_CERT)'))
    .addOption(new Option('--key <file>', 'PEM of its key (or SPANTRAIL_KEY)'));
}

function readTrust(options: Connection, { environment }: Terminal): Trust {
  const given = (name: 'token' | 'ca' | 'cert' | 'key') =>
    options[name] ?? (environment[`SPANTRAIL_${name.toUpperCase()}`] || undefined);
  const read = (name: 'ca' | 'cert' | 'key') => {
    const file = given(name);
    if (file === undefined) return undefined;
    try {
      return readFileSync(file, 'utf8');
    } catch (cause) {
      throw new AppError('usage', `--${name}: ${file} cannot be read: ${describeError(cause)}`, { cause });
    }
  };
  const token = given('token')?.trim();
  if (token !== undefined && !/^[!-~]+$/.test(token)) {
    throw new AppError('usage', 'the token is not what "spantrail token create" prints: one word');
  }
  const files = { ca: read('ca'), cert: read('cert'), key: read('key') };
  if ((files.cert === undefined) !== (files.key === undefined)) {
    throw new AppError('usage', '--cert and --key belong together');
  }
  for (const name of ['ca', 'cert'] as const) {
    // Without this a key given as an authority would be passed over in silence, and every server be a stranger.
    if (files[name] !== undefined && !isCertificate(files[name])) {
      throw new AppError('usage', `--${name}: ${given(name)} holds no certificate in PEM`);
    }
  }
  try {
    createSecureContext(files);
  } catch (cause) {
    throw new AppError(
      'usage',
      `--ca, --cert or --key is not the PEM file that it should be: ${describeError(cause)}`,
      {
        cause,
      },
    );
  }
  return { token, ...files };
}

function isCertificate(pem: string): boolean {
  try {
    new X509Certificate(pem);
    return true;
  } catch {
    return false;
  }
}

function isInTheClear(url: string): boolean {
  if (!URL.canParse(url)) return false;
  const { protocol, hostname } = new URL(url);
  return protocol === 'http:' && !/^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname);
}
