import { z } from 'zod';

const granted = z.strictObject({
  role: z.string().min(1),
  permissions: z.array(z.string().min(1)).default([]),
  targets: z.array(z.string().min(1)).default([]),
});

/** What insights cannot know from records: docs/insights.md. */
export const insights = z
  .strictObject({
    granted: z
      .array(granted)
      .default([])
      .describe(
        'What your policies grant, as `role`, `permissions` and `targets` (as `spantrail insights permissions` and `targets` write them), so that what no role ever used is told as unused.',
      ),
  })
  .prefault({});
