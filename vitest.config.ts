import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Files that take minutes: begun last, one of them would go on alone while the other core has nothing to do. */
const LONG = /\/(?:simulation|fuzz|torture)\/|outage\.test|growth\.test|access-api\.test|elasticsearch-\d\.test/;

class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLong = ({ moduleId }: TestSpecification) => LONG.test(moduleId);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Starts the real servers that the files of a run ask for, and says at the end what was skipped.
    globalSetup: ['test/setup/global.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // One more than the cores of a small machine: at nearly any moment one of three waits for a server, a queue or a clock.
    maxWorkers: 3,
    sequence: { sequencer: LongFirst },
  },
});
