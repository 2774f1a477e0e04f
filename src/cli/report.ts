import { writeFile } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import { AppError, describeError } from '../core/errors.ts';
import { asking, type Connection, connect } from './connection.ts';
import { printableChunks } from './format.ts';
import type { Terminal } from './main.ts';

interface ReportOptions extends Connection {
  readonly from: string;
  readonly to: string;
  readonly namespace?: string;
  readonly sensitive?: string;
  readonly format?: string;
  readonly out?: string;
}

/** `spantrail report`. */
export function addReportCommand(program: Command, terminal: Terminal): void {
  asking(program.command('report'))
    .description('What a reviewer looks at for one stretch of time: a document in Markdown or HTML')
    .requiredOption('--from <time>', 'earliest: RFC 3339, or back from now like -1d, -7d')
    .option('--to <time>', 'before this time', 'now')
    .option('--namespace <name>', 'only this namespace')
    .option('--sensitive <query>', 'which accesses are sensitive; without it the rules’ definition `sensitive`')
    .addOption(
      new Option(
        '--format <format>',
        'md, html or json; without it what the name of the file ends with, else md',
      ).choices(['md', 'html', 'json']),
    )
    .option('--out <file>', 'write to this file, readable by you alone, instead of the terminal')
    .addHelpText(
      'after',
      `
The same stored records give the same report, however often it is made. docs/report.md says what each part is for.

Examples:
  spantrail report --from 2026-11-01 --to 2026-12-01 --out november.html
  spantrail report --from -1d | less                     since yesterday, as Markdown`,
    )
    .action(async ({ from, to, namespace, sensitive, out, ...options }: ReportOptions) => {
      const format = options.format ?? /\.(html|json)$/.exec(out ?? '')?.[1] ?? 'md';
      const client = connect(options, terminal);
      const source = await client.open('/api/v1/report', { from, to, namespace, sensitive, format });
      if (out !== undefined) return writePrivately(out, source);
      const chunks = terminal.columns === undefined ? source : printableChunks(source);
      for await (const chunk of chunks) terminal.output.write(chunk);
      if (format === 'json') terminal.write('\n');
    });
}

/** Audit data is for the one who asked. Whole or not at all: the document is small. */
async function writePrivately(path: string, source: AsyncIterable<Uint8Array>): Promise<void> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part);
  try {
    await writeFile(path, Buffer.concat(parts), { mode: 0o600 });
  } catch (cause) {
    throw new AppError('storage', `${path} cannot be written: ${describeError(cause)}`, { cause });
  }
}
