import { z } from 'zod';
import { durationMs } from './values.ts';

/** Which metrics are kept to be shown on records near in time: docs/pressure.md. */
export const pressure = z
  .strictObject({
    enabled: z.boolean().default(true).describe('Show on records what was measured near in time on what they ran on.'),
    defaults: z
      .boolean()
      .default(true)
      .describe('Keep the metrics of the built-in list: pools, CPU and memory of containers, queues, event loops.'),
    metrics: z
      .array(
        z.strictObject({
          metric: z.string().min(1).describe('Name of the metric.'),
          reads: z
            .enum(['rate', 'increase', 'mean'])
            .optional()
            .describe('How a growing sum or a histogram is read; `rate` (a second) by default.'),
          limit: z
            .union([z.number().positive(), z.string().min(1)])
            .optional()
            .describe('Its limit: a number, or the name of the metric that tells it.'),
          of: z.string().min(1).optional().describe('Attribute that tells one measured thing (a pool) from the other.'),
        }),
      )
      .default([])
      .describe('Further metrics to keep; one that the built-in list has is read as said here.'),
    nearMs: durationMs('1m').describe('A point counts for records that it was measured within this time of.'),
    keepMs: durationMs('10m').describe('Points are kept in memory this long.'),
    pointsMax: z.int().min(2).max(10_000).default(60).describe('Points kept of one series, 25 bytes each.'),
    seriesMax: z
      .int()
      .min(1)
      .max(1_000_000)
      .default(10_000)
      .describe('Series kept, some 3 KiB each when full. Further ones only count until others have become too old.'),
    metricsMax: z
      .int()
      .min(1)
      .max(64)
      .default(5)
      .describe('Metrics on one record, those nearest to their limits first.'),
    highShare: z
      .number()
      .gt(0)
      .lte(1)
      .default(0.9)
      .describe('Part of a limit from which on audit.pressure.state is `high`; from 1 on it is `exhausted`.'),
  })
  .prefault({});
