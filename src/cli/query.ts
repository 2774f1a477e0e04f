import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { PAGE_RECORDS_MAX, type PipelineAnswer, type RecordsAnswer, type TraceAnswer } from '../api/contract.ts';
import { AppError, describeError } from '../core/errors.ts';
import type { AuditRecord } from '../core/record.ts';
import type { Client, Parameters } from './client.ts';
import { asking, type Connection, connect } from './connection.ts';
import { coverageText } from './coverage.ts';
import { createPaint, jsonLine, type Paint, printableChunks, sentenceLine } from './format.ts';
import type { Terminal } from './main.ts';
import { findRecord, findRevisions, recordText } from './show.ts';
import { traceText } from './trace.ts';

interface SelectionOptions extends Connection {
  readonly from?: string;
  readonly to?: string;
  readonly namespace?: string;
  readonly inner?: boolean;
}

/** The commands that ask a running Spantrail. */
export function addQueryCommands(program: Command, terminal: Terminal): void {
  const paint = createPaint(terminal.colours);
  addSearch(program, terminal, paint);
  addTail(program, terminal, paint);
  addExport(program, terminal);

  asking(program.command('show'))
    .description('One record: who, what, outcome and why, with its path')
    .argument('<id>', 'record id, or its first digits as lists show them')
    .option('--revisions', 'every earlier state too, oldest first')
    .option('--json', 'the JSON document')
    .action(async (id: string, options: Connection & { revisions?: boolean }) => {
      const client = connect(options, terminal);
      const records = options.revisions ? await findRevisions(client, id) : [await findRecord(client, id)];
      for (const record of records) {
        terminal.write(options.json ? jsonLine(record) : `${recordText(record, paint)}\n`);
      }
    });

  asking(program.command('trace'))
    .description('The whole request as a waterfall, with its accesses and the refusal marked')
    .argument('<id>', 'trace id (32 digits), or the id of one of its records')
    .option('--json', 'the JSON document')
    .action(async (id: string, options: Connection) => {
      const client = connect(options, terminal);
      const answer = await client.get<TraceAnswer>(`/api/v1/traces/${await toTraceId(client, id)}`);
      terminal.write(options.json ? jsonLine(answer) : traceText(answer, paint, terminal.columns));
    });
}

function selecting(command: Command): Command {
  return asking(command)
    .argument('[query...]', 'KQL, e.g. user.id: alice and audit.decision: deny; all records without one')
    .option('--namespace <name>', 'only this namespace')
    .option('--inner', 'inner accesses too (statements, calls), not only entries');
}

function ranged(command: Command): Command {
  return selecting(command)
    .option('--from <time>', 'earliest: RFC 3339, or back from now like -15m, -2h, -7d')
    .option('--to <time>', 'before this time');
}

function addSearch(program: Command, terminal: Terminal, paint: Paint): void {
  ranged(program.command('search'))
    .description('Accesses that fit a query, newest first')
    .option('--limit <n>', 'at most this many', toCount, 50)
    .option('--sort <field>', 'a field, with :asc or :desc', '@timestamp:desc')
    .option('--json', 'one JSON document a line')
    .addHelpText(
      'after',
      `
Examples (quotes keep the shell from reading the query):
  spantrail search 'audit.decision: deny' --from -1d        what was refused since yesterday
  spantrail search 'audit.target.id: "patients/7"' --inner  who touched it, statements too
  spantrail search 'event.duration >= 2s' --sort event.duration:desc
  spantrail search 'user.id: (alice or bob) and not source.ip: 10.0.0.0/8'
  spantrail search permission denied                        these words in any sentence`,
    )
    .action(async (words: string[], options: SelectionOptions & { limit: number; sort: string }) => {
      const client = connect(options, terminal);
      const found = await search(client, words.join(' '), options);
      for (const record of found.records) {
        terminal.write(options.json ? jsonLine(record) : `${sentenceLine(record, paint)}\n`);
      }
      if (!options.json && found.records.length === 0) {
        terminal.warn(await whyNothing(client, words.join(' '), options));
      }
      if (!options.json && found.more) {
        terminal.warn(`more than ${options.limit} fit; --limit shows more, "export" all`);
      }
      // Programs read stdout; whoever started them hears of gaps alone.
      if (found.coverage && (!options.json || found.coverage.gap_count > 0)) {
        terminal.warn(coverageText(found.coverage));
      }
    });
}

function addTail(program: Command, terminal: Terminal, paint: Paint): void {
  selecting(program.command('tail'))
    .description('Follow accesses as they are recorded, until Ctrl-C')
    .option('--json', 'one JSON document a line')
    .addHelpText('after', `\nExample:\n  spantrail tail 'audit.decision: deny'    refusals as they happen`)
    .action(async (words: string[], options: SelectionOptions) => {
      const stopping = new AbortController();
      const stop = () => stopping.abort();
      process.once('SIGINT', stop).once('SIGTERM', stop);
      const client = connect(options, terminal);
      const stream = await client.open('/api/v1/tail', parameters(words.join(' '), options), stopping.signal);
      terminal.warn('following; Ctrl-C ends');
      for await (const { event, data } of serverSentEvents(stream)) {
        if (event === 'missed') terminal.warn(`${data} accesses came too fast and are not shown; they are stored`);
        else if (event === 'record') {
          const record = JSON.parse(data) as AuditRecord;
          terminal.write(options.json ? jsonLine(record) : `${sentenceLine(record, paint)}\n`);
        }
      }
      if (!stopping.signal.aborted) throw new AppError('unavailable', 'the server ended the stream');
    });
}

function addExport(program: Command, terminal: Terminal): void {
  ranged(program.command('export'))
    .description('Everything that fits a query, oldest first, as NDJSON or CSV')
    .addOption(new Option('--format <format>', 'ndjson or csv').choices(['ndjson', 'csv']).default('ndjson'))
    .option('--output <file>', 'write to this file, readable by you alone, instead of the terminal')
    .addHelpText(
      'after',
      `\nExample:\n  spantrail export 'user.id: alice' --from -30d --inner --format csv --output alice.csv`,
    )
    .action(async (words: string[], options: SelectionOptions & { format: string; output?: string }) => {
      const client = connect(options, terminal);
      const chosen = parameters(words.join(' '), options);
      const source = await client.open('/api/v1/export', { ...chosen, format: options.format });
      if (options.output !== undefined) await writePrivately(options.output, source);
      else if (terminal.columns === undefined) await pipeline(source, terminal.output, { end: false });
      else await pipeline(printableChunks(source), terminal.output, { end: false });
      terminal.warn(await coverageOf(client, chosen));
    });
}

/** What is missing from an export, which is complete by now whether or not this can be told. */
async function coverageOf(client: Client, chosen: Parameters): Promise<string> {
  try {
    const { coverage } = await client.get<RecordsAnswer>('/api/v1/records', { ...chosen, limit: 1 });
    return coverage ? coverageText(coverage) : 'coverage: this server does not tell';
  } catch (error) {
    return `coverage: not known, ${describeError(error)}`;
  }
}

/** Audit data is for the one who asked: the file is 0600, also when it was there before. */
async function writePrivately(path: string, source: AsyncIterable<Uint8Array>): Promise<void> {
  try {
    const file = await open(path, 'w', 0o600);
    if ((await file.stat()).isFile()) await file.chmod(0o600);
    await pipeline(source, file.createWriteStream());
  } catch (cause) {
    if (cause instanceof AppError)
      throw new AppError(cause.code, `${path} is not complete: ${cause.message}`, { cause });
    throw new AppError('storage', `${path} cannot be written: ${describeError(cause)}`, { cause });
  }
}

/** What to do when no record fits: where they may be instead. */
async function whyNothing(client: Client, q: string, options: SelectionOptions): Promise<string> {
  const holds = async (wanted: Parameters) => {
    const page = await client.get<RecordsAnswer>('/api/v1/records', { ...wanted, inner: 'true', limit: 1 });
    return page.records.length > 0;
  };
  if (!options.inner && (await holds(parameters(q, options))))
    return 'no entry fits, but inner accesses do: add --inner';
  if (await holds({})) return 'nothing fits';
  const evidence = await pendingEvidence(client);
  return evidence > 0
    ? `no record yet, but ${evidence} pieces of evidence are being joined: try again in some seconds`
    : 'no record yet: point a Collector or SDK at OTLP port 4317 (gRPC) or 4318 (HTTP), or see "spantrail demo"';
}

/** Who may read need not be allowed to see how the server is. */
async function pendingEvidence(client: Client): Promise<number> {
  try {
    return (await client.get<PipelineAnswer>('/api/v1/pipeline')).pending.evidence;
  } catch (error) {
    if (error instanceof AppError && error.code === 'forbidden') return 0;
    throw error;
  }
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

/** Pages until the limit is reached. `more` is true when further records fit; what is missing comes with the first page. */
async function search(
  client: Client,
  q: string,
  options: SelectionOptions & { limit: number; sort: string },
): Promise<{ records: AuditRecord[]; more: boolean; coverage: RecordsAnswer['coverage'] }> {
  const records: AuditRecord[] = [];
  let coverage: RecordsAnswer['coverage'];
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
    coverage ??= page.coverage;
    cursor = page.next;
  } while (cursor !== undefined && records.length < options.limit);
  return { records, more: cursor !== undefined, coverage };
}

async function toTraceId(client: Client, text: string): Promise<string> {
  const id = text.toLowerCase();
  if (/^[0-9a-f]{32}$/.test(id)) {
    const q = `event.id: ${id}`;
    const { records } = await client.get<RecordsAnswer>('/api/v1/records', { q, inner: true, limit: 1 });
    if (!records[0]) return id;
  }
  const record = await findRecord(client, id);
  if (!record.trace) throw new AppError('not_found', `record ${record.event.id} belongs to no trace`);
  return record.trace.id;
}

/** Events of a `text/event-stream` (the part of the HTML standard that our server sends). */
async function* serverSentEvents(stream: AsyncIterable<Uint8Array>): AsyncIterable<{ event: string; data: string }> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
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
