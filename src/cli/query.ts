import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { PAGE_RECORDS_MAX, type RecordsAnswer, type TraceAnswer } from '../api/contract.ts';
import { AppError } from '../core/errors.ts';
import type { AuditRecord } from '../core/record.ts';
import { type Client, createClient } from './client.ts';
import { createPaint, sentenceLine } from './format.ts';
import type { Terminal } from './main.ts';
import { findRecord, findRevisions, recordText } from './show.ts';
import { traceText } from './trace.ts';

interface Connection {
  readonly url?: string;
  readonly json?: boolean;
}

interface SelectionOptions extends Connection {
  readonly from?: string;
  readonly to?: string;
  readonly namespace?: string;
  readonly inner?: boolean;
}

const DEFAULT_URL = 'http://127.0.0.1:4320';

function connect(options: Connection, terminal: Terminal): Client {
  return createClient(options.url ?? terminal.environment['SPANTRAIL_URL'] ?? DEFAULT_URL);
}

/** The commands that ask a running Spantrail. */
export function addQueryCommands(program: Command, terminal: Terminal): void {
  const paint = createPaint(terminal.colours);
  const url = () => new Option('--url <url>', `a running Spantrail (or SPANTRAIL_URL; ${DEFAULT_URL})`);
  const selecting = (command: Command) =>
    command
      .argument('[query...]', 'KQL, e.g. user.id: alice and audit.decision: deny; all records without one')
      .option('--from <time>', 'earliest: RFC 3339, or back from now like -15m, -2h, -7d')
      .option('--to <time>', 'before this time')
      .option('--namespace <name>', 'only this namespace')
      .option('--inner', 'inner accesses too (statements, calls), not only entries')
      .addOption(url());

  selecting(program.command('search'))
    .description('Accesses that fit a query, newest first')
    .option('--limit <n>', 'at most this many', toCount, 50)
    .option('--sort <field>', 'a field, with :asc or :desc', '@timestamp:desc')
    .option('--json', 'one JSON document a line')
    .action(async (words: string[], options: SelectionOptions & { limit: number; sort: string }) => {
      const found = await search(connect(options, terminal), words.join(' '), options);
      for (const record of found.records) {
        terminal.write(options.json ? `${JSON.stringify(record)}\n` : `${sentenceLine(record, paint)}\n`);
      }
      if (!options.json && found.records.length === 0)
        terminal.warn('nothing fits; --inner also looks at inner accesses');
      if (!options.json && found.more)
        terminal.warn(`more than ${options.limit} fit; --limit shows more, "export" all`);
    });

  program
    .command('show')
    .description('One record: who, what, outcome and why, with its path')
    .argument('<id>', 'record id, or its first digits')
    .option('--revisions', 'every earlier state too, oldest first')
    .option('--json', 'the JSON document')
    .addOption(url())
    .action(async (id: string, options: Connection & { revisions?: boolean }) => {
      const client = connect(options, terminal);
      const records = options.revisions ? await findRevisions(client, id) : [await findRecord(client, id)];
      for (const record of records) {
        terminal.write(options.json ? `${JSON.stringify(record)}\n` : `${recordText(record, paint)}\n`);
      }
    });

  program
    .command('trace')
    .description('The whole request as a waterfall, with its accesses and the refusal marked')
    .argument('<id>', 'trace id (32 digits), or the id of one of its records')
    .option('--json', 'the JSON document')
    .addOption(url())
    .action(async (id: string, options: Connection) => {
      const client = connect(options, terminal);
      const answer = await client.get<TraceAnswer>(`/api/v1/traces/${await toTraceId(client, id)}`);
      terminal.write(options.json ? `${JSON.stringify(answer)}\n` : traceText(answer, paint));
    });

  selecting(program.command('tail'))
    .description('Follow accesses as they are recorded')
    .option('--json', 'one JSON document a line')
    .action(async (words: string[], options: SelectionOptions) => {
      const response = await connect(options, terminal).open('/api/v1/tail', parameters(words.join(' '), options));
      for await (const { event, data } of serverSentEvents(response)) {
        if (event === 'missed') terminal.warn(`${data} accesses came too fast and are not shown; they are stored`);
        else if (event === 'record') {
          terminal.write(options.json ? `${data}\n` : `${sentenceLine(JSON.parse(data) as AuditRecord, paint)}\n`);
        }
      }
      throw new AppError('unavailable', 'the server ended the stream');
    });

  selecting(program.command('export'))
    .description('Everything that fits a query, oldest first, as NDJSON or CSV')
    .addOption(new Option('--format <format>', 'ndjson or csv').choices(['ndjson', 'csv']).default('ndjson'))
    .option('--output <file>', 'write to this file instead of the terminal')
    .action(async (words: string[], options: SelectionOptions & { format: string; output?: string }) => {
      const response = await connect(options, terminal).open('/api/v1/export', {
        ...parameters(words.join(' '), options),
        format: options.format,
      });
      if (!response.body) return;
      const source = Readable.fromWeb(response.body);
      if (options.output === undefined)
        for await (const chunk of source) terminal.write(String(Buffer.from(chunk as Uint8Array)));
      else await pipeline(source, createWriteStream(options.output, { mode: 0o600 }));
    });
}

function toCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1) throw new InvalidArgumentError('must be a whole number above 0');
  return count;
}

function parameters(q: string, options: SelectionOptions) {
  const { from, to, namespace, inner } = options;
  return { q, from, to, namespace, inner: inner ? 'true' : undefined };
}

/** Pages until the limit is reached. `more` is true when further records fit. */
async function search(
  client: Client,
  q: string,
  options: SelectionOptions & { limit: number; sort: string },
): Promise<{ records: AuditRecord[]; more: boolean }> {
  const records: AuditRecord[] = [];
  let cursor: string | undefined;
  do {
    const limit = Math.min(PAGE_RECORDS_MAX, options.limit - records.length);
    const page = await client.get<RecordsAnswer>('/api/v1/records', {
      ...parameters(q, options),
      sort: options.sort,
      limit,
      cursor,
    });
    records.push(...page.records);
    cursor = page.next;
  } while (cursor !== undefined && records.length < options.limit);
  return { records, more: cursor !== undefined };
}

async function toTraceId(client: Client, id: string): Promise<string> {
  const { records } = await client.get<RecordsAnswer>('/api/v1/records', {
    q: `event.id: "${id}"`,
    inner: true,
    limit: 1,
  });
  if (records[0]) {
    const traceId = records[0].trace?.id;
    if (traceId === undefined) throw new AppError('not_found', `record ${id} belongs to no trace`);
    return traceId;
  }
  if (/^[0-9a-f]{32}$/i.test(id)) return id;
  return (await findRecord(client, id)).trace?.id ?? id;
}

/** Events of a `text/event-stream` (the part of the HTML standard that our server sends). */
async function* serverSentEvents(response: Response): AsyncIterable<{ event: string; data: string }> {
  if (!response.body) return;
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of Readable.fromWeb(response.body)) {
    text += decoder.decode(chunk as Uint8Array, { stream: true });
    let end = text.indexOf('\n\n');
    while (end >= 0) {
      const lines = text.slice(0, end).split('\n');
      text = text.slice(end + 2);
      end = text.indexOf('\n\n');
      const value = (name: string) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      const event = value('event');
      if (event !== undefined) yield { event, data: value('data') ?? '' };
    }
  }
}
