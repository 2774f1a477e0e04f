import { type Command, InvalidArgumentError, Option } from 'commander';
import {
  QUARANTINE_IDS_MAX,
  type QuarantineActionAnswer,
  type QuarantineAnswer,
  type QuarantineItem,
} from '../api/contract.ts';
import { AppError } from '../core/errors.ts';
import type { Client, Parameters } from './client.ts';
import { asking, type Connection, connect } from './connection.ts';
import { createPaint, jsonLine, type Paint, printable } from './format.ts';
import type { Terminal } from './main.ts';

interface ListOptions extends Connection {
  readonly state: 'open' | 'resolved' | 'all';
  readonly stage?: string;
  readonly limit: number;
}

interface ActionOptions extends Connection {
  readonly all?: boolean;
  readonly stage?: string;
}

/** Items of one page of `--all`. */
const PAGE_ITEMS = 1000;

const COLUMNS = ['id', 'stage', 'added', 'what', 'reason'];

/** `spantrail quarantine list|show|retry|drop`. */
export function addQuarantineCommands(program: Command, terminal: Terminal): void {
  const quarantine = program
    .command('quarantine')
    .description('What was acknowledged and could be neither stored nor read, and what to do about it')
    .addHelpText(
      'after',
      `
Examples:
  spantrail quarantine list                                 what waits, oldest first, with the reason
  spantrail quarantine show 3f2a9c01d4e5b6a7                the record or the evidence itself
  spantrail quarantine retry --all --stage store            after the store was mended
  spantrail quarantine drop 3f2a9c01d4e5b6a7 --reason 'load test'`,
    );
  const paint = createPaint(terminal.colours);
  addList(quarantine, terminal, paint);

  asking(quarantine.command('show'))
    .description('One item: why it is here, and the record or evidence itself')
    .argument('<id>', '16 hex digits, as the list shows them')
    .option('--json', 'the JSON document')
    .action(async (id: string, options: Connection) => {
      const item = await connect(options, terminal).get<QuarantineItem>(`/api/v1/quarantine/${toId(id)}`);
      terminal.write(options.json ? jsonLine(item) : itemText(item));
    });

  choosing(quarantine.command('retry'))
    .description('Write records to the store again, settle evidence again')
    .action(async (ids: string[], options: ActionOptions) => {
      const client = connect(options, terminal);
      const retry = (some: string) =>
        client.send<QuarantineActionAnswer>('POST', '/api/v1/quarantine/retry', { ids: some });
      await act(client, ids, options, retry, 'retried', terminal);
    });

  choosing(quarantine.command('drop'))
    .description('Give items up; the reason is kept')
    .requiredOption('--reason <text>', 'why they are given up')
    .action(async (ids: string[], options: ActionOptions & { reason: string }) => {
      const client = connect(options, terminal);
      const drop = (some: string) =>
        client.send<QuarantineActionAnswer>('DELETE', '/api/v1/quarantine', { ids: some, reason: options.reason });
      await act(client, ids, options, drop, 'dropped', terminal);
    });
}

function choosing(command: Command): Command {
  return asking(command)
    .argument('[id...]', 'items, as the list shows them', collectIds)
    .option('--all', 'everything that is open')
    .addOption(new Option('--stage <stage>', 'with --all: only of this stage').choices(['store', 'decode', 'settle']))
    .option('--json', 'one JSON document an item');
}

function collectIds(text: string, before: string[] | undefined): string[] {
  return [...(before ?? []), toId(text)];
}

function toId(text: string): string {
  const id = text.toLowerCase();
  if (!/^[0-9a-f]{16}$/.test(id)) throw new InvalidArgumentError(`"${text}" is no id: those are 16 hex digits`);
  return id;
}

function addList(quarantine: Command, terminal: Terminal, paint: Paint): void {
  asking(quarantine.command('list'))
    .description('What was set aside, oldest first')
    .addOption(
      new Option('--state <state>', 'what waits, or what was done')
        .choices(['open', 'resolved', 'all'])
        .default('open'),
    )
    .addOption(new Option('--stage <stage>', 'only of this stage').choices(['store', 'decode', 'settle']))
    .option('--limit <n>', 'at most this many', toCount, 100)
    .option('--json', 'one JSON document a line')
    .action(async (options: ListOptions) => {
      const { state, stage, limit } = options;
      const client = connect(options, terminal);
      const items: QuarantineItem[] = [];
      let page: QuarantineAnswer;
      let cursor: string | undefined;
      do {
        const size = Math.min(PAGE_ITEMS, limit - items.length);
        page = await client.get<QuarantineAnswer>('/api/v1/quarantine', { state, stage, limit: size, cursor });
        items.push(...page.items);
        cursor = page.next;
      } while (cursor !== undefined && items.length < limit);
      if (options.json) {
        for (const item of items) terminal.write(jsonLine(item));
        return;
      }
      if (items.length > 0) terminal.write(table(items, paint, terminal.columns));
      terminal.warn(summary(items, page, options));
    });
}

function toCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1) throw new InvalidArgumentError('must be a whole number above 0');
  return count;
}

/** Reasons are cut at the end of a terminal's line; `show` and pipes have all of them. */
function table(items: readonly QuarantineItem[], paint: Paint, columns = Number.POSITIVE_INFINITY): string {
  const rows = items.map(({ id, stage, added, subject, reason, state, why }) => [
    id,
    stage,
    added.slice(0, 19).replace('T', ' '),
    subject,
    state === 'open' ? reason : `${state}: ${why ?? ''}`,
  ]);
  const widths = COLUMNS.map((name, at) => Math.max(name.length, ...rows.map((row) => (row[at] ?? '').length)));
  const line = (row: readonly string[]) => {
    const text = row.map((cell, at) => printable(at < COLUMNS.length - 1 ? cell.padEnd(widths[at] ?? 0) : cell));
    const whole = text.join('  ').trimEnd();
    return whole.length > columns ? `${whole.slice(0, columns - 1)}…` : whole;
  };
  return `${[paint.dim(line(COLUMNS)), ...rows.map(line)].join('\n')}\n`;
}

function summary(items: readonly QuarantineItem[], answer: QuarantineAnswer, options: ListOptions): string {
  const { open, bytes, bytes_max, damaged } = answer;
  const sentences: string[] = [];
  if (items.length === 0 && options.state === 'resolved') sentences.push('nothing was resolved so far');
  else if (items.length === 0 && open > 0) sentences.push(`nothing fits; ${open} items are open`);
  else if (open === 0)
    sentences.push('nothing waits in quarantine: all that was acknowledged could be read and stored');
  else {
    sentences.push(`${open} open, ${mebibytes(bytes)} of ${mebibytes(bytes_max)} MiB; "show" tells more of one`);
    sentences.push('"retry" writes or settles again once the cause is mended, "drop" gives up');
  }
  if (answer.next !== undefined) sentences.push(`more than ${options.limit} fit; --limit shows more`);
  if (damaged > 0) sentences.push(`${damaged} lines of quarantine/quarantine.ndjson are damaged and not shown`);
  return sentences.join('\n');
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(bytes < 2 ** 30 ? 1 : 0);
}

function itemText({ id, stage, subject, reason, added, state, resolved, why, body }: QuarantineItem): string {
  const lines = [
    `item     ${id}, set aside by ${stage}${added ? ` at ${added}` : ''}`,
    `what     ${stage === 'store' ? 'record' : 'evidence at'} ${subject}`,
    `reason   ${reason}`,
    state === 'open' ? 'state    open' : `state    ${state} at ${resolved}: ${why}`,
  ].map(printable);
  const content = body === undefined ? [] : JSON.stringify(body, null, 2).split('\n').map(printable);
  return `${[...lines, ...content].join('\n')}\n`;
}

type Action = (ids: string) => Promise<QuarantineActionAnswer>;
type Result = QuarantineActionAnswer['results'][number];

/** Acts on the items named, or page by page on all. Throws AppError when one is not there or not done. */
async function act(
  client: Client,
  ids: readonly string[] | undefined,
  options: ActionOptions,
  action: Action,
  done: 'retried' | 'dropped',
  terminal: Terminal,
): Promise<void> {
  const named = ids ?? [];
  if (named.length > 0 === (options.all === true)) throw new AppError('usage', 'name items, or all of them with --all');
  if (named.length > 0 && options.stage) throw new AppError('usage', '--stage goes with --all');
  const counts = { done: 0, left: 0, unknown: 0 };
  for await (const some of options.all ? pages(client, { stage: options.stage }) : inParts(named)) {
    const { results } = await action(some.join(','));
    for (const result of results) {
      counts[result.state === done ? 'done' : result.state === 'unknown' ? 'unknown' : 'left']++;
      terminal.write(options.json ? jsonLine(result) : resultLine(result));
    }
  }
  if (!options.json)
    terminal.warn(counts.done === 0 && counts.left === 0 ? 'nothing was open' : `${counts.done} ${done}`);
  if (counts.unknown > 0) throw new AppError('not_found', `${counts.unknown} ids are not in quarantine`);
  if (counts.left > 0) throw new AppError('internal', `${counts.left} not ${done}, see above`);
}

function resultLine({ id, state, text }: Result): string {
  return `${id}  ${state.padEnd(8)}${printable(text)}\n`;
}

async function* inParts(ids: readonly string[]): AsyncIterable<readonly string[]> {
  for (let at = 0; at < ids.length; at += QUARANTINE_IDS_MAX) yield ids.slice(at, at + QUARANTINE_IDS_MAX);
}

/** The open items of now: what stays open is passed by, what is set aside meanwhile may be met. */
async function* pages(client: Client, filter: Parameters): AsyncIterable<readonly string[]> {
  let cursor: string | undefined;
  do {
    const answer: QuarantineAnswer = await client.get('/api/v1/quarantine', {
      ...filter,
      limit: QUARANTINE_IDS_MAX,
      cursor,
    });
    cursor = answer.next;
    if (answer.items.length > 0) yield answer.items.map(({ id }) => id);
  } while (cursor !== undefined);
}
