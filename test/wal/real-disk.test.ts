import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { utimesSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockDataFolder, lockHolder, openDataFolder } from '../../src/wal/data-folder.ts';
import { Quarantine } from '../../src/wal/quarantine.ts';
import { SettleJournal } from '../../src/wal/settle-journal.ts';
import { Wal } from '../../src/wal/wal.ts';
import { frameOf, numberOf, replayed } from './helpers.ts';

let folder = '';
const children: ChildProcess[] = [];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spantrail-wal-'));
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await rm(folder, { recursive: true });
});

function run(...args: string[]) {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  return { child, lines: createInterface({ input: child.stdout }) };
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

describe('on the machine’s own disk', () => {
  it.each(['raw', 'compressed'])(
    'every frame that a killed process acknowledged is there, time after time, %s',
    async (form) => {
      const data = join(folder, 'wal');
      for (const acknowledgedMin of [1, 300, 400, 500, 1000]) {
        const { child, lines } = run(fileURLToPath(new URL('./append-until-killed.ts', import.meta.url)), data, form);
        const acknowledged: number[] = [];
        lines.on('line', (line) => {
          acknowledged.push(Number(line));
          if (acknowledged.length === acknowledgedMin) child.kill('SIGKILL');
        });
        await Promise.all([once(lines, 'close'), once(child, 'exit')]);
        expect(acknowledged.length).toBeGreaterThanOrEqual(acknowledgedMin);
        const wal = await Wal.open({ folder: data });
        const found = new Set((await replayed(wal)).map(numberOf));
        expect(acknowledged.filter((number) => !found.has(number))).toEqual([]);
        await wal.close();
      }
      const wal = await Wal.open({ folder: data });
      const found = await replayed(wal);
      for (const frame of found) expect(frame).toMatchObject(frameOf(numberOf(frame), frame.payload.length));
      await wal.close();
      const forms = new Set((await readdir(data)).map((name) => name.replace(/^\d+/, '')));
      expect([...forms]).toEqual([form === 'raw' ? '.wal' : '.walz']);
    },
  );

  it('files and folders are for this user only', async () => {
    const data = await openDataFolder(join(folder, 'data'));
    const wal = await Wal.open({ folder: join(data, 'wal') });
    await wal.append(frameOf(1));
    const journal = await SettleJournal.open({ folder: join(data, 'journal') });
    const acceptedThrough = { segment: 1, offset: 32 };
    await journal.append([], { atMs: 1, storedBefore: 1, acceptedThrough, totals: [] });
    const quarantine = await Quarantine.open(join(data, 'quarantine'));
    const lock = await lockDataFolder(data);
    const names = await readdir(data, { recursive: true });
    expect(names.sort()).toEqual([
      'format',
      'journal',
      'journal/0000000001.journal',
      'lock',
      'quarantine',
      'quarantine/quarantine.ndjson',
      'wal',
      'wal/0000000001.wal',
    ]);
    for (const name of ['', ...names]) {
      const { mode } = await stat(join(data, name));
      expect(`${name} ${(mode & 0o777).toString(8)}`).toBe(`${name} ${/[.]|lock|format/.test(name) ? '600' : '700'}`);
    }
    await Promise.all([wal.close(), journal.close(), quarantine.close(), lock.release()]);
    expect(await readdir(data)).not.toContain('lock');
  });

  it('a failing system call is reported in one line', async () => {
    const file = join(folder, 'file');
    await writeFile(file, '');
    for (const path of [file, join(file, 'below'), '/proc/nope']) {
      await expect(openDataFolder(path)).rejects.toMatchObject({
        code: 'storage',
        message: expect.stringMatching(new RegExp(`^the data folder ${path} cannot be used: .+`)),
      });
    }
  });

  it('folders and files of another user are told with both users', async () => {
    const [data, log] = [join(folder, 'data'), join(folder, 'log')];
    const wal = await Wal.open({ folder: log });
    await wal.append(frameOf(1));
    await wal.close();
    await mkdir(data, { mode: 0o500 });
    const isRoot = process.getuid?.() === 0;
    await chmod(folder, 0o755);
    await chmod(log, isRoot ? 0o755 : 0o700);
    await chmod(join(log, '0000000001.wal'), isRoot ? 0o600 : 0);
    // Root may do everything: be somebody else for a moment.
    if (isRoot) process.seteuid?.(65_534);
    try {
      const users = new RegExp(
        `${data} belongs to user \\d+, this process runs as user ${process.geteuid?.()}: run it as`,
      );
      await expect(openDataFolder(join(data, 'below'))).rejects.toMatchObject({ code: 'storage', message: users });
      const words = /the write-ahead log in .* cannot be opened: EACCES.*; its files must belong to the user/;
      await expect(Wal.open({ folder: log })).rejects.toMatchObject({ code: 'storage', message: words });
    } finally {
      if (isRoot) process.seteuid?.(0);
    }
  });

  it('a folder of a newer program is refused with words', async () => {
    expect(await openDataFolder(folder)).toBe(folder);
    const text = await readFile(join(folder, 'format'), 'utf8');
    expect(await openDataFolder(folder)).toBe(folder);
    await writeFile(join(folder, 'format'), text.replace('1', '2'));
    await expect(openDataFolder(folder)).rejects.toMatchObject({
      code: 'storage',
      message: expect.stringMatching(/has format 2, this program knows up to 1: run the newer Spantrail/),
    });
  });
});

describe('the lock of the data folder', () => {
  const module = JSON.stringify(join(import.meta.dirname, '../../src/wal/data-folder.ts'));
  const script = `const { lockDataFolder } = await import(${module});
    const words = await lockDataFolder(process.argv[1]).then(() => 'held', (error) => error.message);
    console.log(words);
    setInterval(() => {}, 1e6);`;
  const holder = () => run('--input-type=module', '-e', script, folder);

  it('refuses a second process while the first lives and is taken over when it is dead', async () => {
    const { child, lines } = holder();
    expect(await once(lines, 'line')).toEqual(['held']);
    await expect(lockDataFolder(folder)).rejects.toMatchObject({
      code: 'storage',
      message: expect.stringMatching(new RegExp(`${folder} is in use by process ${child.pid}:`)),
    });
    await kill(child);
    const lock = await lockDataFolder(folder);
    await lock.release();
  });

  it('goes to one of several processes that find a dead one', async () => {
    await writeFile(join(folder, 'lock'), '4194305 1');
    const answers = await Promise.all([holder(), holder(), holder(), holder()].map(({ lines }) => once(lines, 'line')));
    expect(answers.flat().sort()).toEqual([
      'held',
      ...Array.from({ length: 3 }, () => expect.stringContaining(`${folder} is in use by process`)),
    ]);
    expect(await readdir(folder)).toEqual(['lock']);
  });

  it('refuses a second holder in this process until the first releases', async () => {
    const lock = await lockDataFolder(folder);
    await expect(lockDataFolder(`${folder}/`)).rejects.toThrow(`in use by process ${process.pid}`);
    await lock.release();
    await (await lockDataFolder(folder)).release();
  });

  it.each([
    ['our own pid in an earlier life', `${process.pid} 1`],
    ['our own pid without a start time', `${process.pid} `],
    ['another process that took the pid of the dead one', `${process.ppid} 1`],
    ['nothing readable', 'x'],
    ['an empty file', ''],
  ])('takes over a lock with %s', async (_, text) => {
    await writeFile(join(folder, 'lock'), text);
    await (await lockDataFolder(folder)).release();
  });

  describe('of a holder that cannot be seen', () => {
    const quick = { beatMs: 40 };
    const foreign = '7 1234 pid:[1]@another-boot';

    it('is respected while it shows that it lives, and taken over when it does not', async () => {
      const file = join(folder, 'lock');
      await writeFile(file, foreign);
      const beating = setInterval(() => utimesSync(file, new Date(), new Date()), 10);
      const said: string[] = [];
      const report = (words: string) => void said.push(words);
      await expect(lockDataFolder(folder, { ...quick, report })).rejects.toThrow(
        'in use by process 7 of another container or host: stop it',
      );
      expect(await lockHolder(folder, quick)).toBe('process 7 of another container or host');
      clearInterval(beating);
      expect(said).toEqual([expect.stringContaining('waiting for a sign of life')]);
      expect(await lockHolder(folder, quick)).toBeUndefined();
      const lock = await lockDataFolder(folder, quick);
      expect(await lockHolder(folder, quick)).toBe(`process ${process.pid}`);
      await lock.release();
      expect(await readdir(folder)).toEqual([]);
    });

    it('is made again when somebody removed it, unless the folder is gone', async () => {
      const lock = await lockDataFolder(folder, quick);
      await unlink(join(folder, 'lock'));
      while (!(await readdir(folder)).includes('lock')) await new Promise((resolve) => setTimeout(resolve, 5));
      await rm(folder, { recursive: true });
      await new Promise((resolve) => setTimeout(resolve, 3 * quick.beatMs));
      await mkdir(folder);
      while (!(await readdir(folder)).includes('lock')) await new Promise((resolve) => setTimeout(resolve, 5));
      await lock.release();
      expect(await readdir(folder)).toEqual([]);
    });

    it('is found out about by the one who lost it', async () => {
      let tell = (_error: Error) => {};
      const lost = new Promise<Error>((resolve) => {
        tell = resolve;
      });
      const lock = await lockDataFolder(folder, { ...quick, onLost: tell });
      await writeFile(join(folder, 'theirs'), foreign);
      await rename(join(folder, 'theirs'), join(folder, 'lock'));
      expect((await lost).message).toContain(`the lock of the data folder ${folder} was lost`);
      await lock.release();
      // It is not ours to remove.
      expect(await readdir(folder)).toEqual(['lock']);
    });

    it('is kept in a pid namespace of its own, as a container has it', async () => {
      const apart = `const { lockDataFolder } = await import(${module});
        const words = await lockDataFolder(process.argv[1], { beatMs: 40 }).then(() => 'held', (error) => error.message);
        console.log(process.pid, words);
        setInterval(() => {}, 1e6);`;
      const user = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
      const args = [...user, '--pid', '--fork', '--kill-child', '--mount-proc'];
      const child = spawn('unshare', [...args, process.execPath, '--input-type=module', '-e', apart, folder], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      children.push(child);
      const [words] = await once(createInterface({ input: child.stdout }), 'line');
      expect(words).toBe('1 held');
      await expect(lockDataFolder(folder, quick)).rejects.toThrow('in use by process 1 of another container or host');
      await kill(child);
      await (await lockDataFolder(folder, quick)).release();
    });
  });

  it('says why when there can be no lock', async () => {
    await mkdir(join(folder, 'lock'));
    await expect(lockDataFolder(join(folder, 'absent'))).rejects.toMatchObject({ code: 'storage' });
  });
});
