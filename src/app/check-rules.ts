import type { Settings } from '../config/schema.ts';
import { Counters } from '../core/metrics.ts';
import { createRedaction } from './redaction.ts';
import { createSettling } from './settling.ts';

/** Compiles what settings hold of rules, as a start does. Throws AppError('config') that names the rule and what is wrong with it. */
export function checkRules(settings: Settings): void {
  createSettling(settings);
  createRedaction(settings, new Counters());
}
