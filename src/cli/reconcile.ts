import type { Command } from 'commander';
import type { ReconcileEvent, ReconcileSummary } from '../api/reconcile-contract.ts';
import { AppError } from '../core/errors.ts';
import { asking, type Connection, connect } from './connection.ts';
import { createPaint, jsonLine, type Paint, printable } from './format.ts';
import type { Terminal } from './main.ts';

const MEANINGS = {
  missing: 'stored once, and not there any more',
  older: 'there in an earlier state only',
  unknown: 'there, and of no trace that was settled here',
};

/** `spantrail reconcile`: ends with 0 when there is no difference (any more), else with 1. */
export function addReconcileCommand(program: Command, terminal: Terminal): void {
  const paint = createPaint(terminal.colours);
  asking(program.command('reconcile'))
    .description('Compare the store with what is known to be stored, and restore what it lost')
    .option(
      '--restore',
      'settle the traces of what is missing again, as far as their evidence is held, and look once more',
    )
    .option('--namespace <name>', 'only this namespace')
    .option('--json', 'one JSON document an event')
    .addHelpText(
      'after',
      `
Kinds of differences:
  missing  ${MEANINGS.missing}
  older    ${MEANINGS.older}
  unknown  ${MEANINGS.unknown}; listed, never removed.
           With several Spantrails over one store, what the others wrote is unknown to each:
           name the --namespace that is this one's alone.

Exit codes: 0 no difference (left), 1 differences, 5 it could not be found out.`,
    )
    .action(async (options: Connection & { restore?: boolean; namespace?: string }) => {
      const parameters = { restore: options.restore ? 'true' : undefined, namespace: options.namespace };
      const stream = await connect(options, terminal).open('/api/v1/reconcile', parameters, undefined, 'POST');
      let summary: ReconcileSummary | undefined;
      for await (const event of events(stream)) {
        if (event.type === 'error') throw new AppError('unavailable', `not compared to the end: ${event.message}`);
        if (event.type === 'summary') summary = event;
        if (options.json) terminal.write(jsonLine(event));
        else show(event, terminal, paint);
      }
      if (summary === undefined) throw new AppError('unavailable', 'the server ended before the comparison did');
      if (!options.json) terminal.warn(summaryText(summary, options.restore === true));
      if (summary.left > 0)
        throw new AppError('internal', `${summary.left} differences${options.restore ? ' are left' : ''}`);
    });
}

function show(event: ReconcileEvent, terminal: Terminal, paint: Paint): void {
  if (event.type === 'difference') {
    const when = event.timestamp.slice(0, 23).replace('T', ' ');
    const place = printable(`${event.namespace}  trace ${event.trace_id || 'none'}`);
    terminal.write(`${paint.yellow(event.kind.padEnd(7))}  ${paint.dim(when)}  ${printable(event.id)}  ${place}\n`);
  } else if (event.type === 'unrestored') {
    terminal.write(`${paint.red('not restored')}  ${printable(event.id)}  ${printable(event.reason)}\n`);
  }
}

function summaryText(summary: ReconcileSummary, isRestoring: boolean): string {
  const { compared, missing, older, unknown, quarantined, superseded_missing, restored, since, damaged_bytes } =
    summary;
  const lines = [`${compared} records compared: ${missing} missing, ${older} older, ${unknown} unknown since ${since}`];
  if (isRestoring) lines.push(`${restored} restored`);
  if (!isRestoring && missing + older > 0) lines.push('"spantrail reconcile --restore" brings back what it can');
  if (quarantined > 0) lines.push(`${quarantined} are not stored but in quarantine, or were dropped from there`);
  if (superseded_missing > 0) {
    lines.push(
      `${superseded_missing} that other records stand for are missing; no read shows them, nothing restores them`,
    );
  }
  if (damaged_bytes > 0)
    lines.push(`${damaged_bytes} bytes of the settle journal are damaged; what they knew is not compared`);
  return lines.join('\n');
}

async function* events(stream: AsyncIterable<Uint8Array>): AsyncIterable<ReconcileEvent> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of stream) {
    const lines = (text + decoder.decode(chunk, { stream: true })).split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) yield JSON.parse(line) as ReconcileEvent;
  }
}
