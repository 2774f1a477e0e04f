/**
 * The growth scenario for as long as it is let: `node test/growth/run.ts --minutes 10 [--rate 100] [--calm] [--spantrails 3]`.
 * Prints what was sent, acknowledged and indexed, and the processor time of each part; fails when something is missing or double.
 */
import { parseArgs } from 'node:util';
import { provideCollector } from '../setup/collector.ts';
import { openHouse } from './house.ts';
import { FIRST_NAMES, runScenario } from './scenario.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    rate: { type: 'string', default: '60' },
    calm: { type: 'boolean', default: false },
    spantrails: { type: 'string', default: String(FIRST_NAMES.length) },
  },
});

const collector = await provideCollector();
if ('skipped' in collector) throw new Error(collector.skipped);
const names = Array.from({ length: Number(values.spantrails) }, (_, number) => `spantrail-${number}`);
const house = await openHouse(collector.binary, names);
if ('skipped' in house) throw new Error(house.skipped);
const tell = (words: string) => void process.stdout.write(`${words}\n`);
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void house.close().then(() => process.exit(1)));
try {
  const before = await house.cpuSeconds();
  const outcome = await runScenario(house, {
    ...{ tracesASecond: Number(values.rate), pauseMs: 5_000, forMs: Number(values.minutes) * 60_000 },
    ...{ isCalm: values.calm, tell },
  });
  const after = await house.cpuSeconds();
  const { sent, acknowledged, indexed, incomplete, outranked, seconds, faults } = outcome;
  tell(
    JSON.stringify({
      seconds: Math.round(seconds),
      faults: faults.length,
      sent,
      acknowledged,
      indexed,
      incomplete,
      outranked,
    }),
  );
  const millionths = (part: keyof typeof after) =>
    ((after[part] - before[part]) / (acknowledged.spans / 1e6)).toFixed(1);
  if (values.calm) {
    tell(
      `CPU seconds a million spans: Collector ${millionths('collector')}, Spantrails ${millionths('spantrails')}, Elasticsearch ${millionths('elasticsearch')}`,
    );
  }
} finally {
  await house.close();
}
