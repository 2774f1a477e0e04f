import { DISK_TARGETS } from './disk-targets.ts';
import { EVENT_TARGETS } from './event-targets.ts';
import { OTLP_TARGETS } from './otlp-targets.ts';
import type { Target } from './target.ts';
import { TEXT_TARGETS } from './text-targets.ts';

/** Every decoder of what comes from outside: senders, people, and files that a crash or a disk may have damaged. */
export const TARGETS: readonly Target[] = [...OTLP_TARGETS, ...EVENT_TARGETS, ...TEXT_TARGETS, ...DISK_TARGETS];
