import { readlinkSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';
import { basename } from 'node:path';

/**
 * How nice a thread is that does not have to be quick. With one core it gets a tenth of it while another thread has work for all of it:
 * of what such a thread compresses, that is still as much as comes in.
 */
const NICE = 10;

/**
 * Lets the other threads of the process go before this one. Linux schedules each thread by a priority of its own, and takes a
 * thread's number where setpriority(2) has that of a process.
 */
export function lowerThisThread(): void {
  try {
    const thread = Number(basename(readlinkSync('/proc/thread-self')));
    if (getPriority(thread) < NICE) setPriority(thread, NICE);
  } catch {
    // Another system, or /proc is hidden: it runs beside the others then.
  }
}
