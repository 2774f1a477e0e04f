import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { loadSettings } from '../config/load.ts';
import { formatTimestamp, systemScheduler } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import { lockDataFolder, lockHolder, openDataFolder } from '../wal/data-folder.ts';
import { nodeDisk } from '../wal/disk.ts';
import { inspectLog, isDamaged, type LogInspection, type SegmentInspection } from '../wal/inspect.ts';
import { type RepairStep, repairLog } from '../wal/repair.ts';
import { JOURNAL_KIND, type SegmentKind, WAL_KIND } from '../wal/segment-format.ts';
import type { Damage } from '../wal/segment-reader.ts';
import { createPaint, jsonLine, type Paint, printable } from './format.ts';
import type { Terminal } from './main.ts';

interface WalOptions {
  readonly config?: string;
  readonly dataDir?: string;
  readonly json?: boolean;
}

/** How often a long inspection says how far it is. */
const PROGRESS_MS = 2_000;

const LOGS: readonly { readonly name: string; readonly kind: SegmentKind }[] = [
  { name: 'wal', kind: WAL_KIND },
  { name: 'journal', kind: JOURNAL_KIND },
];

/** The commands about the files of the write-ahead log and the settle journal. */
export function addWalCommands(program: Command, terminal: Terminal): void {
  const wal = program.command('wal').description('The files in which accepted evidence lies');
  const configured = (command: Command) =>
    command
      .option('--config <file>', 'settings (YAML)')
      .option('--data-dir <folder>', 'the data folder')
      .option('--json', 'one JSON document a line');
  configured(wal.command('inspect'))
    .description('Read every segment and say what is in it and what is damaged; changes nothing, also while serve runs')
    .action(async (options: WalOptions) => inspect(folderOf(options, terminal), options.json === true, terminal));
  configured(wal.command('repair'))
    .description('Take out what cannot be read, keep it in *.damaged files, and say what is lost; serve must not run')
    .action(async (options: WalOptions) => repair(folderOf(options, terminal), options.json === true, terminal));
}

function folderOf(options: WalOptions, terminal: Terminal): string {
  const { dataDir } = loadSettings({
    file: options.config ?? (terminal.environment['SPANTRAIL_CONFIG'] || undefined),
    environment: terminal.environment,
    overrides: { dataDir: options.dataDir },
  });
  return resolve(dataDir);
}

async function inspect(folder: string, isJson: boolean, terminal: Terminal): Promise<void> {
  const holder = await lockHolder(folder);
  const paint = createPaint(terminal.colours);
  const damaged: string[] = [];
  let found = 0;
  for (const { name, kind } of LOGS) {
    const place = { folder: join(folder, name), kind, disk: nodeDisk };
    const progress = progressOf(`${name}: read`, terminal);
    const log = await inspectLog(place, { isInUse: holder !== undefined, progress }).catch((error: unknown) => {
      throw readable(error, folder);
    });
    found += log.segments.length;
    if (isDamaged(log)) damaged.push(name);
    if (isJson) for (const line of jsonOf(name, log)) terminal.write(jsonLine(line));
    else terminal.write(tableOf(kind, log, holder, paint));
  }
  if (damaged.length === 0) return;
  const advice = holder === undefined ? '' : ` after stopping ${holder}`;
  const words = `${damaged.join(' and ')} of ${folder} is damaged (${count(found)} read)`;
  throw new AppError('storage', `${words}; "spantrail wal repair --data-dir ${folder}"${advice} takes it out`);
}

async function repair(folder: string, isJson: boolean, terminal: Terminal): Promise<void> {
  const lock = await lockDataFolder(await existing(folder), { report: (words) => terminal.warn(words) });
  try {
    let lostBytes = 0;
    let steps = 0;
    for (const { name, kind } of LOGS) {
      const place = { folder: join(folder, name), kind, disk: nodeDisk };
      for (const step of await repairLog(place, progressOf(`${name}: read`, terminal))) {
        terminal.write(isJson ? jsonLine(jsonStep(name, step)) : `${wordsOf(step)}\n`);
        lostBytes += step.lostBytes;
        steps += 1;
      }
    }
    if (isJson) return;
    const loss = lostBytes === 0 ? 'nothing is lost' : `${formatBytes(lostBytes)} cannot be read any more`;
    terminal.write(steps === 0 ? 'nothing to repair\n' : `${steps} repaired: ${loss}\n`);
  } finally {
    await lock.release();
  }
}

/** A folder that is not there is a mistyped name, and must not be made. */
async function existing(folder: string): Promise<string> {
  try {
    await nodeDisk.list(join(folder, 'wal'));
  } catch (error) {
    throw readable(error, folder);
  }
  return openDataFolder(folder);
}

function readable(error: unknown, folder: string): unknown {
  if (error instanceof AppError) return error;
  return new AppError('storage', `${folder} is no data folder that can be read: ${describeError(error)}`, {
    cause: error,
  });
}

function progressOf(words: string, terminal: Terminal): (bytes: number, bytesTotal: number) => void {
  let saidMs = systemScheduler.elapsedMs();
  return (bytes, bytesTotal) => {
    const nowMs = systemScheduler.elapsedMs();
    if (nowMs - saidMs < PROGRESS_MS) return;
    saidMs = nowMs;
    terminal.warn(`${words} ${formatBytes(bytes)} of ${formatBytes(bytesTotal)}`);
  };
}

function times({ firstNs, lastNs }: { readonly firstNs?: bigint | undefined; readonly lastNs?: bigint | undefined }) {
  return {
    ...(firstNs === undefined ? {} : { from: formatTimestamp(firstNs) }),
    ...(lastNs === undefined ? {} : { to: formatTimestamp(lastNs) }),
  };
}

function jsonDamage({ firstNs, lastNs, ...damage }: Damage) {
  return { ...damage, ...times({ firstNs, lastNs }) };
}

function* jsonOf(log: string, { segments, missing, unfinished, kept, strange }: LogInspection) {
  for (const { firstNs, lastNs, damage, ...segment } of segments) {
    yield { log, ...segment, ...times({ firstNs, lastNs }), ok: damage.length === 0, damage: damage.map(jsonDamage) };
  }
  for (const { from, to } of missing) yield { log, missing: { from, to }, ok: false };
  for (const file of unfinished) yield { log, unfinished: file };
  for (const file of kept) yield { log, kept: file };
  for (const file of strange) yield { log, strange: file };
}

function jsonStep(log: string, { firstNs, lastNs, ...step }: RepairStep) {
  return { log, ...step, ...times({ firstNs, lastNs }) };
}

const COLUMNS = ['segment', 'form', 'bytes', 'raw bytes', 'entries', 'first (UTC)', 'last (UTC)', 'state'] as const;

function tableOf(kind: SegmentKind, log: LogInspection, holder: string | undefined, paint: Paint): string {
  const bytes = log.segments.reduce((sum, segment) => sum + segment.bytes, 0);
  const use = holder === undefined ? '' : `, in use by ${holder}`;
  const title = `${kind.words}, ${log.folder}: ${count(log.segments.length)}, ${formatBytes(bytes)}${use}`;
  const rows = log.segments.map((segment) => rowOf(segment));
  const widths = COLUMNS.map((name, column) => Math.max(name.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    `  ${cells.map((cell, column) => (column === 0 || column === 1 || column > 4 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0))).join('  ')}`.trimEnd();
  const body = log.segments.flatMap((segment, index) => {
    const text = line(rows[index] ?? []);
    return [segment.damage.length > 0 ? paint.red(text) : text, ...damageLines(segment)];
  });
  const others = [
    ...log.missing.map(({ from, to }) =>
      paint.red(`  missing: ${from === to ? `segment ${from}` : `segments ${from} to ${to}`}`),
    ),
    ...log.unfinished.map((name) => `  ${printable(name)}: unfinished, the next start removes it`),
    ...log.kept.map((name) => `  ${printable(name)}: taken out by a repair`),
    ...log.strange.map((name) => `  ${printable(name)}: not ours, left alone`),
  ];
  const table = log.segments.length > 0 ? [paint.dim(line(COLUMNS)), ...body] : [];
  return `${[paint.bold(printable(title)), ...table, ...others].join('\n')}\n`;
}

function rowOf(segment: SegmentInspection): string[] {
  const lost = segment.damage.reduce((sum, { bytes }) => sum + bytes, 0);
  const removed = segment.removedBytes > 0 ? `, ${formatBytes(segment.removedBytes)} taken out` : '';
  const state =
    segment.damage.length > 0 ? `DAMAGED, ${formatBytes(lost)}` : `${segment.isActive ? 'ok, open' : 'ok'}${removed}`;
  return [
    String(segment.segment),
    segment.form,
    String(segment.bytes),
    String(segment.rawBytes),
    String(segment.entries),
    shortTime(segment.firstNs),
    shortTime(segment.lastNs),
    state,
  ];
}

function damageLines({ file, damage }: SegmentInspection): string[] {
  return damage.map((one) => `    ${printable(`${file} at ${one.offset}: ${lossOf(one.bytes, one)}`)}`);
}

function wordsOf(step: RepairStep): string {
  const kept = step.kept === undefined ? '' : `; kept as ${step.kept}`;
  return printable(`${step.file} at ${step.offset}: ${lossOf(step.lostBytes, step)}${kept}`);
}

function lossOf(bytes: number, found: Pick<Damage, 'reason' | 'firstNs' | 'lastNs'>): string {
  const { from, to } = times(found);
  const range = from === undefined && to === undefined ? '' : `, received from ${from ?? '?'} to ${to ?? '?'}`;
  return `${found.reason}; ${bytes === 0 ? 'nothing is lost by it' : `${bytes} bytes lost${range}`}`;
}

function shortTime(timeNs: bigint | undefined): string {
  return timeNs === undefined ? '' : formatTimestamp(timeNs).slice(0, 19).replace('T', ' ');
}

function count(segments: number): string {
  return segments === 1 ? '1 segment' : `${segments} segments`;
}

const UNITS: readonly (readonly [number, string])[] = [
  [1024 ** 3, 'GiB'],
  [1024 ** 2, 'MiB'],
  [1024, 'KiB'],
];

function formatBytes(bytes: number): string {
  const [size, unit] = UNITS.find(([least]) => bytes >= least) ?? [1, 'bytes'];
  return `${size === 1 ? bytes : (bytes / size).toFixed(1)} ${unit}`;
}
