import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';

/** Who may import whom (besides itself and `core`). The one place where the direction of the flow is written down. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  config: [],
  otlp: [],
  query: [],
  auth: [],
  receive: ['auth', 'otlp', 'wal'],
  wal: [],
  join: ['otlp', 'wal'],
  access: [],
  enrich: ['access'],
  store: ['query'],
  insights: ['query', 'store/port.ts', 'store/paging.ts'],
  api: ['auth', 'insights', 'query', 'store/port.ts'],
  coverage: ['wal/disk.ts'],
  detect: ['query'],
  notify: ['access/glob.ts', 'detect/hours.ts', 'wal/disk.ts'],
  cli: [
    'api/alert-contract.ts',
    'api/contract.ts',
    'api/rule-contract.ts',
    'api/reconcile-contract.ts',
    'auth',
    'config',
    'app',
    'query',
    'store/port.ts',
    'wal',
  ],
  app: [
    'access',
    'api',
    'auth',
    'config',
    'coverage',
    'detect',
    'enrich',
    'insights',
    'join',
    'notify',
    'otlp',
    'query',
    'receive',
    'store',
    'wal',
  ],
  sdk: [],
};

/** Only these read the machine's time, chance or environment. `sdk` runs in other people's services. */
const MAY_READ_AMBIENT = /^(app|config|sdk)\/|^core\/clock\.ts$/;
const AMBIENT = /\bDate\.now\b|\bMath\.random\b|\bprocess\.env\b/;

const FILE_LINES_MAX = 400;

const root = join(import.meta.dirname, '../../src');
const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }));

function importsOf(path: string, text: string): string[] {
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map((match) =>
    relative(root, join(root, path, '..', match[1] ?? '')),
  );
}

describe('the house keeps its plan', () => {
  it('finds the source', () => expect(files.length).toBeGreaterThan(10));

  it('imports only what the table allows', () => {
    const strangers = files.flatMap(({ path, text }) => {
      const stage = path.split('/')[0] ?? '';
      const allowed = [stage, 'core', ...(MAY_IMPORT[stage] ?? [])];
      return importsOf(path, text)
        .filter((target) => !allowed.some((place) => target === place || target.startsWith(`${place}/`)))
        .map((target) => `${path} → ${target}`);
    });
    expect(strangers).toEqual([]);
  });

  it('reads time, chance and environment only where that is allowed', () => {
    const readers = files.filter(({ path, text }) => !MAY_READ_AMBIENT.test(path) && AMBIENT.test(text));
    expect(readers.map(({ path }) => path)).toEqual([]);
  });

  it('has files that fit in a sitting, and no barrels', () => {
    const long = files.filter(({ text }) => text.split('\n').length > FILE_LINES_MAX + 1);
    expect(long.map(({ path }) => path)).toEqual([]);
    expect(files.filter(({ text }) => /^export \* from/m.test(text)).map(({ path }) => path)).toEqual([]);
  });
});
