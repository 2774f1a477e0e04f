import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';

/** Who may import whom (besides itself and `core`). The one place where the direction of the flow is written down. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  config: [],
  otlp: [],
  query: [],
  receive: ['otlp', 'wal'],
  wal: [],
  join: ['otlp', 'wal'],
  access: [],
  enrich: ['access'],
  store: ['query'],
  api: ['query', 'store/port.ts'],
  cli: ['api/contract.ts', 'config', 'app', 'query', 'store/port.ts', 'wal'],
  app: ['access', 'api', 'config', 'enrich', 'join', 'otlp', 'query', 'receive', 'store', 'wal'],
  sdk: [],
};

/** Only these read the machine's time, chance or environment. */
const MAY_READ_AMBIENT = /^(app|config)\/|^core\/clock\.ts$/;
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

  it.each(files)('$path imports only what the table allows', ({ path, text }) => {
    const stage = path.split('/')[0] ?? '';
    const allowed = [stage, 'core', ...(MAY_IMPORT[stage] ?? [])];
    const strangers = importsOf(path, text).filter(
      (target) => !allowed.some((place) => target === place || target.startsWith(`${place}/`)),
    );
    expect(strangers).toEqual([]);
  });

  it.each(files)('$path reads no ambient time, chance or environment', ({ path, text }) => {
    if (!MAY_READ_AMBIENT.test(path)) expect(AMBIENT.exec(text)?.[0]).toBeUndefined();
  });

  it.each(files)('$path fits in a sitting and re-exports nothing', ({ text }) => {
    expect(text.split('\n').length).toBeLessThanOrEqual(FILE_LINES_MAX);
    expect(text).not.toMatch(/^export \* from/m);
  });
});
