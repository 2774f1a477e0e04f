import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { describeSettings, settingsExample, settingsJsonSchema, settingsMarkdown } from '../../src/config/describe.ts';
import { loadSettings } from '../../src/config/load.ts';
import { AppError } from '../../src/core/errors.ts';

const folder = mkdtempSync(join(tmpdir(), 'spantrail-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

function file(text: string): string {
  const path = join(folder, 'spantrail.yaml');
  writeFileSync(path, text);
  return path;
}

function failure(text: string, environment: Record<string, string> = {}): string {
  try {
    loadSettings({ file: file(text), environment });
  } catch (error) {
    expect(error).toBeInstanceOf(AppError);
    return (error as AppError).message.replaceAll(`${join(folder, 'spantrail.yaml')}: `, '');
  }
  throw new Error('the settings were accepted');
}

describe('settings', () => {
  it('are complete without any file', () => {
    const settings = loadSettings({ environment: {} });
    expect(settings.receive.grpc).toEqual({ host: '127.0.0.1', port: 4317 });
    expect(settings.join.graceMs).toBe(500);
    expect(settings.wal.horizonBytesMax).toBe(8 * 1024 ** 3);
    expect(settings.store.type).toBe('duckdb');
  });

  it('name the variable that is wrong, not the file', () => {
    expect(failure('namespace: shop\n', { SPANTRAIL_API_PORT: 'abc' })).toMatch(/^SPANTRAIL_API_PORT: api\.port: /);
  });

  it('take file, environment and command line, in rising order', () => {
    const path = file('join:\n  idleMs: 3s\n  graceMs: 100ms\nnamespace: ${env:TENANT:-clinic}\nworkers: 2\n');
    const settings = loadSettings({
      file: path,
      environment: {
        SPANTRAIL_JOIN_GRACE_MS: '250ms',
        SPANTRAIL_WORKERS: '3',
        SPANTRAIL_RECEIVE_HTTP_CORS_ORIGINS: '[a, b]',
      },
      overrides: { workers: 4, dataDir: undefined },
    });
    expect(settings.join).toMatchObject({ idleMs: 3000, graceMs: 250 });
    expect(settings.namespace).toBe('clinic');
    expect(settings.workers).toBe(4);
    expect(settings.receive.http.corsOrigins).toEqual(['a', 'b']);
  });

  it.each([
    ['join:\n  idelMs: 10s', 'join.idelMs: unknown setting; did you mean join.idleMs?'],
    ['join:\n  idleMs: soon', 'join.idleMs: must be a whole number or a number with a unit, for example 10s'],
    [
      'wal:\n  segmentBytes: 1MB',
      'wal.segmentBytes: must be a whole number or a number with a unit, for example 64MiB',
    ],
    ['receive:\n  grpc:\n    port: 70000', 'receive.grpc.port: Too big: expected number to be <=65535'],
    ['namespace: ${env:NOBODY}', 'namespace: environment variable NOBODY is not set'],
    ['namespace: Ünit', 'namespace: must be 1 to 63 of a-z, 0-9, _ and -, and start with a letter or digit'],
    ['- a\n- b', 'must hold settings by name, for example "dataDir: /var/lib/spantrail"'],
    ['receive:\n  inFlightBytesMax: 1MiB', /^receive.inFlightBytesMax: must be at least twice maxRequestBytes/],
    ['a: [', /^Flow sequence in block collection must be sufficiently indented|line 1/],
  ])('say what is wrong and what would be right: %j', (text, message) => {
    const found = failure(text);
    if (typeof message === 'string') expect(found.split('\n')).toContain(message);
    else expect(found).toMatch(message);
  });

  it('name every mistake at once', () => {
    expect(failure('foo: 1\njoin:\n  bar: 2').split('\n')).toHaveLength(2);
  });

  it('say that a file cannot be read', () => {
    expect(() => loadSettings({ file: join(folder, 'none.yaml'), environment: {} })).toThrow(/cannot be read/);
  });

  it('have one variable each and a text', () => {
    const settings = describeSettings();
    expect(new Set(settings.map((setting) => setting.variable)).size).toBe(settings.length);
    expect(settings.filter((setting) => setting.description === '')).toEqual([]);
  });

  it('accept their own example once its lines are uncommented', () => {
    const uncommented = settingsExample()
      .split('\n')
      .filter((line) => /^# {0,7}[ \w]+:/.test(line) && !/^# +#/.test(line))
      .map((line) => line.slice(2))
      .join('\n');
    expect(loadSettings({ file: file(uncommented), environment: {} })).toEqual(loadSettings({ environment: {} }));
  });

  it('are written down: the generated files are what the schema makes', () => {
    expect(readFileSync('docs/settings.md', 'utf8')).toBe(settingsMarkdown());
    expect(readFileSync('deploy/spantrail.example.yaml', 'utf8')).toBe(settingsExample());
    expect(settingsJsonSchema()).toHaveProperty('properties.join.properties.idleMs');
  });
});
