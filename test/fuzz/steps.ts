import { Session } from 'node:inspector/promises';

const SOURCE = '/src/';

/**
 * How often the blocks of our own code are run while `act` does its work: a measure of work that is the same on every
 * machine. What the engine does within one expression, such as matching a regular expression, is not in it.
 */
export async function countSteps(act: () => void | Promise<void>): Promise<number> {
  const session = new Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
    await session.post('Profiler.takePreciseCoverage');
    await act();
    const { result } = await session.post('Profiler.takePreciseCoverage');
    let steps = 0;
    for (const { url, functions } of result) {
      if (!url.includes(SOURCE)) continue;
      for (const { ranges } of functions) for (const { count } of ranges) steps += count;
    }
    return steps;
  } finally {
    await session.post('Profiler.stopPreciseCoverage');
    session.disconnect();
  }
}
