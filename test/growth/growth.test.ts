/**
 * Three real Spantrails behind a real Collector, before a real Elasticsearch of two nodes, under load while one after the other is
 * killed, added and taken away. `node test/growth/run.ts --minutes 10` does the same for longer.
 */
import { afterAll, expect, inject, it } from 'vitest';
import { type House, openHouse } from './house.ts';
import { FIRST_NAMES, runScenario } from './scenario.ts';

const collector = inject('collector');
/** Some 80 s on two cores of its own; a ceiling for a machine that has much else to do. */
const TEST_MS_MAX = 600_000;
let house: House | undefined;

afterAll(() => house?.close());

it.skipIf('skipped' in collector)(
  'every acknowledged access is indexed once, whoever is killed, added or taken away meanwhile',
  async (context) => {
    const opened = await openHouse('binary' in collector ? collector.binary : '', FIRST_NAMES);
    if ('skipped' in opened) return context.skip(opened.skipped);
    house = opened;
    const tell = (words: string) => void process.stdout.write(`${words}\n`);
    const outcome = await runScenario(house, { tracesASecond: 15, pauseMs: 2_000, forMs: 0, tell });
    const { sent, acknowledged, indexed, incomplete, outranked } = outcome;
    tell(`growth: ${JSON.stringify({ sent, acknowledged, indexed, incomplete, outranked })}`);
    expect(outcome.faults).toHaveLength(7);
    expect(indexed).toBeGreaterThan(500);
    // The instances that were added and taken away had their share of traces that were under way.
    expect(incomplete + outranked).toBeGreaterThan(0);
  },
  TEST_MS_MAX,
);
