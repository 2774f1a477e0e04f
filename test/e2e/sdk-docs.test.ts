import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { type RunningProgram, startProgram } from '../setup/program.ts';
import { type RunningProcess, startProcess } from './spantrail.ts';

const root = join(import.meta.dirname, '../..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const agents = inject('agents');

describe('the docs of the helper and of browsers', () => {
  it.each([
    ['docs/sdk.md', 'test/sdk/shop/gateway.mjs'],
    ['docs/sdk.md', 'test/sdk/shop/orders.mjs'],
    ['docs/browser.md', 'test/e2e/shop-page/telemetry.mjs'],
  ])('%s shows what the tests run: %s', (page, program) => {
    expect(read(page)).toContain(`\n\`\`\`js\n${read(program)}\`\`\`\n`);
  });
});

describe.skipIf('skipped' in agents)('the Python service of docs/sdk.md', () => {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-e2e-'));
  let spantrail: RunningProcess;
  let service: RunningProgram;
  beforeAll(async () => {
    if ('skipped' in agents) return;
    spantrail = await startProcess(['--data-dir', join(folder, 'data'), '--store', 'memory']);
    writeFileSync(join(folder, 'orders.py'), /```python\n([\s\S]*?)```/.exec(read('docs/sdk.md'))?.[1] ?? '');
    const python = (name: string) => join(agents.python, name);
    service = await startProgram(
      python('opentelemetry-instrument'),
      [python('flask'), '--app', 'orders', 'run', '--port', '0'],
      /http:\/\/127\.0\.0\.1:(\d+)/,
      {
        folder,
        environment: {
          ...process.env,
          OTEL_SERVICE_NAME: 'orders',
          OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${spantrail.grpc}`,
          OTEL_METRICS_EXPORTER: 'none',
          OTEL_BSP_SCHEDULE_DELAY: '200',
          OTEL_BLRP_SCHEDULE_DELAY: '200',
        },
      },
    );
  });
  afterAll(async () => {
    await service?.stop();
    await spantrail?.stop('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  it('makes one record of each request and what it meant', async () => {
    for (const order of ['7', '13']) {
      await fetch(`http://127.0.0.1:${service.ready[1]}/orders/${order}`, { headers: { 'x-shop-user': 'alice' } });
    }
    // Both pieces have come when the events have taken the ids of their requests.
    const merged = 'event.action: open-order and http.response.status_code: *';
    await expect.poll(() => spantrail.search(merged), { timeout: 20_000 }).toHaveLength(2);
    const records = await spantrail.search('*');
    expect(records.map(({ message }) => message.replace(/, \S+ \S+$/, '')).sort()).toEqual([
      'alice did open-order on orders/7 from 127.0.0.1',
      'alice was refused open-order on orders/13 from 127.0.0.1: the order is under legal hold',
    ]);
    expect(records.map(({ audit, http }) => [http?.route, audit.evidence.length])).toEqual([
      ['/orders/<order>', 2],
      ['/orders/<order>', 2],
    ]);
  });
});
