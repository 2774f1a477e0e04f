import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { type Disk, errnoOf } from '../wal/disk.ts';

/**
 * Small files that are written whole: a first line that names what they are and a checksum of the rest, then one JSON value
 * a line, so that people can read them.
 */
const VERSION = 1;

interface Head {
  readonly format: string;
  readonly version: number;
  readonly lines: number;
  readonly crc32: string;
}

/** Characters of lines that are made ready at a time. */
const PART_CHARS = 64 * 1024;

const TEMPORARY = '.new';
const UNREADABLE = '.unreadable';

export type CheckedContent =
  | { readonly kind: 'lines'; readonly lines: readonly unknown[] }
  | { readonly kind: 'absent' }
  | { readonly kind: 'damaged'; readonly reason: string };

/**
 * Replaces the file. The order matters: the new content is durable under another name before the rename, so that a crash
 * leaves the old file or the new one; with the folder's fsync the rename is durable. Rejects when any step fails, and then
 * the old file is still there. `pause` is awaited now and then while the lines are made: who gives it sees to it that what they
 * are made of does not change meanwhile.
 */
export async function writeChecked(
  disk: Disk,
  path: string,
  format: string,
  lines: Iterable<unknown>,
  pause?: () => Promise<void>,
): Promise<void> {
  const folder = join(path, '..');
  const body = await bodyOf(lines, pause);
  const head: Head = { format, version: VERSION, lines: body.lines, crc32: hexOf(body.checksum) };
  const temporary = `${path}${TEMPORARY}`;
  // Left behind by a crash or a full disk.
  await disk.unlink(temporary).catch(ignoreAbsent);
  const file = await disk.create(temporary);
  try {
    await file.write([Buffer.from(`${JSON.stringify(head)}\n`), ...body.parts], 0);
    await file.fdatasync();
  } finally {
    await file.close();
  }
  await disk.rename(temporary, path);
  await disk.syncFolder(folder);
}

async function bodyOf(lines: Iterable<unknown>, pause?: () => Promise<void>) {
  const parts: Buffer[] = [];
  let [text, count, checksum] = ['', 0, 0];
  const end = (): void => {
    const part = Buffer.from(text);
    checksum = crc32(part, checksum);
    parts.push(part);
    text = '';
  };
  for (const line of lines) {
    text += `${JSON.stringify(line)}\n`;
    count++;
    if (text.length < PART_CHARS) continue;
    end();
    if (pause) await pause();
  }
  end();
  return { parts, lines: count, checksum };
}

/** Never rejects for what the file holds: a damaged one is told with the reason. */
export async function readChecked(disk: Disk, path: string, format: string): Promise<CheckedContent> {
  let bytes: Buffer;
  try {
    const file = await disk.openToRead(path);
    try {
      bytes = Buffer.alloc(await file.size());
      const got = await file.read(bytes, 0);
      bytes = bytes.subarray(0, got);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return { kind: 'absent' };
    throw error;
  }
  return parseChecked(bytes, format);
}

function parseChecked(bytes: Buffer, format: string): CheckedContent {
  const damaged = (reason: string): CheckedContent => ({ kind: 'damaged', reason });
  const end = bytes.indexOf('\n');
  if (end < 0) return damaged('its first line is torn');
  let head: Partial<Head>;
  try {
    head = JSON.parse(bytes.toString('utf8', 0, end)) ?? {};
  } catch {
    return damaged('its first line is no JSON');
  }
  if (head.format !== format) return damaged(`it is no ${format}`);
  if (head.version !== VERSION) return damaged(`it has format version ${head.version}, this program reads ${VERSION}`);
  const body = bytes.subarray(end + 1);
  if (head.crc32 !== hexOf(crc32(body))) return damaged('its checksum is wrong');
  const lines = body.toString('utf8').split('\n').slice(0, -1);
  try {
    return { kind: 'lines', lines: lines.map((line) => JSON.parse(line) as unknown) };
  } catch {
    return damaged('a line of it is no JSON');
  }
}

/** Puts an unreadable file aside under another name, for a person to look at; an older one of that name goes. */
export async function putAside(disk: Disk, path: string): Promise<string> {
  const aside = `${path}${UNREADABLE}`;
  await disk.rename(path, aside);
  await disk.syncFolder(join(path, '..'));
  return aside;
}

export function ignoreAbsent(error: unknown): void {
  if (errnoOf(error) !== 'ENOENT') throw error;
}

function hexOf(checksum: number): string {
  return checksum.toString(16).padStart(8, '0');
}
