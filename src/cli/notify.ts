import { type Command, InvalidArgumentError, Option } from 'commander';
import {
  NOTICE_IDS_MAX,
  type NoticeAnswer,
  type NoticeIdsAnswer,
  type NoticesAnswer,
  type NoticeTestAnswer,
} from '../api/alert-contract.ts';
import { loadSettings } from '../config/load.ts';
import { AppError } from '../core/errors.ts';
import type { Client } from './client.ts';
import { asking, type Connection, connect } from './connection.ts';
import { createPaint, jsonLine, type Paint, printable } from './format.ts';
import type { Terminal } from './main.ts';

const NOTICES_MAX = 1000;

/** `spantrail notify list|test|retry|drop`. */
export function addNotifyCommands(program: Command, terminal: Terminal): void {
  const paint = createPaint(terminal.colours);
  const notify = program
    .command('notify')
    .description('Notices of alerts: what waits, what was given up, and whether a channel works')
    .addHelpText(
      'after',
      `
Examples:
  spantrail notify test oncall                     a made-up alert to this channel, now
  spantrail notify test oncall --config FILE       the same without a running Spantrail
  spantrail notify list --state dead               what was given up, and why
  spantrail notify retry --all                     after the receiver was mended`,
    );

  asking(notify.command('list'))
    .description('Notices that are not delivered, the oldest first')
    .addOption(
      new Option('--state <state>', 'what waits or was given up').choices(['waiting', 'dead', 'all']).default('all'),
    )
    .option('--channel <name>', 'only of this channel')
    .option('--limit <n>', 'at most this many', toCount, 100)
    .option('--json', 'one JSON document a line')
    .action(async (options: Connection & { state: string; channel?: string; limit: number }) => {
      const { state, channel, limit } = options;
      const answer = await connect(options, terminal).get<NoticesAnswer>('/api/v1/notices', { state, channel, limit });
      for (const notice of answer.notices) {
        terminal.write(options.json ? jsonLine(notice) : `${noticeLine(notice, paint)}\n`);
      }
      if (!options.json) terminal.warn(`${answer.waiting} wait, ${answer.dead} were given up`);
    });

  asking(notify.command('test'))
    .description('Send a made-up alert to a channel, past routes and quiet times')
    .argument('<channel>', 'its name in the settings')
    .option('--config <file>', 'send it from here, with these settings, instead of asking a running Spantrail')
    .action(async (channel: string, options: Connection & { config?: string }) => {
      const { delivered, text } =
        options.config === undefined
          ? await connect(options, terminal).send<NoticeTestAnswer>('POST', '/api/v1/notices/test', { channel })
          : await testHere(channel, options.config, terminal);
      if (!delivered) throw new AppError('unavailable', `${channel} did not get it: ${text}`);
      terminal.write(`${printable(channel)} took it: ${printable(text)}\n`);
    });

  for (const [name, method, path, done] of [
    ['retry', 'POST', '/api/v1/notices/retry', 'are tried again'],
    ['drop', 'DELETE', '/api/v1/notices', 'given up'],
  ] as const) {
    asking(notify.command(name))
      .description(name === 'retry' ? 'Try notices again, now, with all their tries' : 'Give notices up')
      .argument('[id...]', 'notices, as the list shows them', collectIds)
      .option('--all', 'every dead letter')
      .option('--channel <name>', 'with --all: only of this channel')
      .action(async (ids: string[] | undefined, options: Connection & { all?: boolean; channel?: string }) => {
        const client = connect(options, terminal);
        const named = ids ?? [];
        if (named.length > 0 === (options.all === true)) {
          throw new AppError('usage', 'name notices, or all dead letters with --all');
        }
        const wanted = options.all ? await deadLetters(client, options.channel) : named;
        let count = 0;
        for (let at = 0; at < wanted.length; at += NOTICE_IDS_MAX) {
          const some = wanted.slice(at, at + NOTICE_IDS_MAX).join(',');
          count += (await client.send<NoticeIdsAnswer>(method, path, { ids: some })).ids.length;
        }
        terminal.warn(`${count} ${done}`);
        if (count < wanted.length) throw new AppError('not_found', `${wanted.length - count} are not there (any more)`);
      });
  }
}

async function deadLetters(client: Client, channel: string | undefined): Promise<string[]> {
  const parameters = { state: 'dead', channel, limit: NOTICES_MAX };
  const { notices } = await client.get<NoticesAnswer>('/api/v1/notices', parameters);
  return notices.map(({ id }) => id);
}

async function testHere(channel: string, file: string, terminal: Terminal): Promise<NoticeTestAnswer> {
  const { notify } = loadSettings({ file, environment: terminal.environment });
  const { openNotifiers, testChannel } = await import('../app/notices.ts');
  const { systemClock } = await import('../core/clock.ts');
  const notifiers = await openNotifiers(notify, { clock: systemClock, version: terminal.version });
  const outcome = await testChannel(notifiers, channel, systemClock.nowMs());
  return outcome.kind === 'delivered'
    ? { delivered: true, text: outcome.answer }
    : { delivered: false, text: outcome.reason };
}

function collectIds(text: string, before: string[] | undefined): string[] {
  const id = text.toLowerCase();
  if (!/^[0-9a-f]{16}$/.test(id)) throw new InvalidArgumentError(`"${text}" is no id: those are 16 hex digits`);
  return [...(before ?? []), id];
}

function toCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > NOTICES_MAX) {
    throw new InvalidArgumentError(`must be 1 to ${NOTICES_MAX}`);
  }
  return count;
}

function noticeLine({ id, channel, change, state, said, created, tries, next, reason }: NoticeAnswer, paint: Paint) {
  const when = paint.dim(created.slice(0, 19).replace('T', ' '));
  const how = state === 'dead' ? paint.red('dead   ') : paint.yellow('waiting');
  const why = reason === undefined ? '' : `: ${reason}`;
  const often = tries === 1 ? '1 try' : `${tries} tries`;
  const until = next === undefined || tries === 0 ? '' : `, next ${next.slice(11, 19)}`;
  return `${paint.dim(id)}  ${when}  ${how}  ${channel}  ${change}: ${printable(said)}  (${often}${until}${printable(why)})`;
}
