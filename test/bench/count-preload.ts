/**
 * Loaded into a receiver before it starts (`node --import`): counts what code its main thread runs, by V8's precise coverage. At the
 * first SIGUSR2 it begins to count, at each further one it writes one line on stderr with the counts since the one before.
 */
import { Session } from 'node:inspector';
import { codeRun } from './code-run.ts';

const session = new Session();
let isCounting = false;

process.on('SIGUSR2', () => {
  if (!isCounting) {
    session.connect();
    session.post('Profiler.enable');
    session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
    isCounting = true;
    process.stderr.write('count {}\n');
    return;
  }
  session.post('Profiler.takePreciseCoverage', (_error, { result }) => {
    process.stderr.write(`count ${JSON.stringify(codeRun(result))}\n`);
  });
});
