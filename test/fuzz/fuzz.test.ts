import { describe, expect, it } from 'vitest';
import { corpusOf, faultOf } from './fuzz-target.ts';
import { runFuzz } from './run-fuzz.ts';
import { countSteps } from './steps.ts';
import { TARGETS } from './targets.ts';

/** .ci/run takes a million; more by `npm run fuzz -- --messages 10000000`. */
const MESSAGES = Number(process.env['SPANTRAIL_FUZZ_MESSAGES'] ?? 100_000);
const SEED = 1;

const cases = TARGETS.flatMap((target) => corpusOf(target.name).map(({ name, bytes }) => ({ name, bytes, target })));

/** An input of many parts: what it costs must grow with their number, not with its square. */
const LONG = TARGETS.flatMap((target) => (target.tokens ?? []).slice(0, 6).map((token) => ({ target, token })));
const PARTS = 400;
/** Twice the input takes twice the steps and something; a square would take four times as many. */
const GROWTH_MAX = 3;
const STEPS_ALWAYS = 20_000;

describe('decoders', () => {
  it.each(cases)('keep their promises for $name', async ({ target, bytes }) => {
    expect(await faultOf(target, bytes)).toBeUndefined();
  });

  it.each(TARGETS)('$name: keeps its promises for what it starts from', async (target) => {
    for (const sample of target.samples) expect(await faultOf(target, sample)).toBeUndefined();
  });

  it('work in proportion to their input', { timeout: 300_000 }, async () => {
    const found: string[] = [];
    for (const { target, token } of LONG) {
      const stepsOf = (parts: number) =>
        countSteps(async () => void (await faultOf(target, Buffer.from(token.repeat(parts)))));
      const once = await stepsOf(PARTS);
      const twice = await stepsOf(2 * PARTS);
      if (twice > GROWTH_MAX * once + STEPS_ALWAYS)
        found.push(`${target.name}, ${JSON.stringify(token)}: ${once}, ${twice}`);
    }
    expect(found).toEqual([]);
  });

  it(`keep their promises for ${MESSAGES} messages that nobody sent before`, { timeout: 1_800_000 }, async () => {
    const { found, tried } = await runFuzz({
      targets: TARGETS,
      seed: SEED,
      messages: MESSAGES,
      print: () => undefined,
    });
    expect(found).toEqual([]);
    expect(tried).toBeGreaterThanOrEqual(MESSAGES);
  });
});
