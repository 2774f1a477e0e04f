import { type Command, InvalidArgumentError, Option } from 'commander';
import { stringify } from 'yaml';
import { PERMISSIONS, type Permission, SENT_SIGNALS, type SentSignal } from '../auth/principal.ts';
import { createToken, hashToken } from '../auth/token.ts';
import { readTokens } from '../config/auth.ts';
import { systemClock } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import type { Terminal } from './main.ts';

interface CreateOptions {
  readonly can: readonly Permission[];
  readonly expires?: number;
  readonly signals?: readonly SentSignal[];
  readonly presets?: readonly string[];
  readonly namespaces?: readonly string[];
  readonly json?: boolean;
}

const DAY_MS = 86_400_000;

/** Longer ones are meant to stay for ever, and then say so by having no end. */
const EXPIRES_DAYS_MAX = 3650;

export function addTokenCommands(program: Command, terminal: Terminal): void {
  const token = program.command('token').description('Tokens for those who send, read and operate (docs/senders.md)');
  token
    .command('create')
    .argument('<name>', 'who has it; stands in records as the sender')
    .addOption(
      new Option('--can <rights>', `what it is for: ${PERMISSIONS.join(', ')}`)
        .argParser(listOf(PERMISSIONS))
        .makeOptionMandatory(),
    )
    .option('--expires <days>', 'ends after so many days, such as 90d', toDays)
    .addOption(new Option('--signals <list>', `send only ${SENT_SIGNALS.join(', ')}`).argParser(listOf(SENT_SIGNALS)))
    .option('--presets <list>', 'send only webhooks of these presets', words)
    .option('--namespaces <list>', 'send only to these; the first is that of requests which name none', words)
    .option('--json', 'one JSON document')
    .description('Make a token; print it once, and the lines for the settings, which hold only its hash')
    .action((name: string, options: CreateOptions) => create(name, options, terminal));
}

function create(
  name: string,
  { can, expires, signals, presets, namespaces, json }: CreateOptions,
  terminal: Terminal,
): void {
  const secret = createToken();
  const expiresAt = expires && new Date(systemClock.nowMs() + expires * DAY_MS).toISOString().replace(/\.\d+Z$/, 'Z');
  const entry = {
    name,
    hash: hashToken(secret),
    can,
    ...(expiresAt && { expiresAt }),
    ...(signals && { signals }),
    ...(presets && { presets }),
    ...(namespaces && { namespaces }),
  };
  try {
    readTokens(JSON.stringify({ tokens: [entry] }));
  } catch (cause) {
    throw new AppError('usage', describeError(cause).replace(/^tokens\.0\./, ''), { cause });
  }
  if (json) {
    terminal.write(`${JSON.stringify({ token: secret, ...entry })}\n`);
    return;
  }
  const lines = Object.entries(entry).map(([key, value], index) => {
    const text = Array.isArray(value) ? `[${value.join(', ')}]` : stringify(value).trim();
    return `    ${index === 0 ? '- ' : '  '}${key}: ${text}`;
  });
  terminal.warn(`this is the only time that the token is shown; whoever has it is ${name}`);
  terminal.write(`${secret}\n\nauth:\n  tokens:\n${lines.join('\n')}\n`);
}

function words(text: string): string[] {
  return text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
}

function listOf<Word extends string>(known: readonly Word[]): (text: string) => Word[] {
  return (text) =>
    words(text).map((word) => {
      const found = known.find((each) => each === word);
      if (found === undefined) throw new InvalidArgumentError(`there is no "${word}"; there are ${known.join(', ')}`);
      return found;
    });
}

function toDays(text: string): number {
  const days = Number(/^(\d{1,4})d?$/.exec(text)?.[1] ?? 0);
  if (days < 1 || days > EXPIRES_DAYS_MAX) throw new InvalidArgumentError(`must be 1d to ${EXPIRES_DAYS_MAX}d`);
  return days;
}
