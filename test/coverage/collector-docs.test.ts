import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, inject, it } from 'vitest';
import { parse, stringify } from 'yaml';

const ROOT = join(import.meta.dirname, '../..');
const collector = inject('collector');

interface CollectorConfig {
  exporters: Record<string, unknown>;
  processors?: Record<string, unknown>;
  service: { pipelines: Record<string, unknown> };
}

describe.skipIf('skipped' in collector)('the pipelines of docs/coverage.md, in otel-collector-config.yaml', () => {
  it('are ones that a real Collector takes', async () => {
    const page = readFileSync(join(ROOT, 'docs/coverage.md'), 'utf8');
    const snippet = /```yaml\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
    const { service } = parse(snippet) as CollectorConfig;
    expect(Object.keys(service.pipelines)).toEqual(['traces/audit', 'traces']);
    const config = parse(readFileSync(join(ROOT, 'otel-collector-config.yaml'), 'utf8')) as CollectorConfig;
    config.service.pipelines = { ...config.service.pipelines, ...service.pipelines };
    config.processors = { ...config.processors, tail_sampling: { policies: [{ name: 'all', type: 'always_sample' }] } };
    const folder = mkdtempSync(join(tmpdir(), 'spantrail-docs-'));
    try {
      const file = join(folder, 'config.yaml');
      writeFileSync(file, stringify(config));
      const { binary } = collector as { binary: string };
      await promisify(execFile)(binary, ['validate', '--config', file], { cwd: folder });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
