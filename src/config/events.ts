import { z } from 'zod';

/** Webhooks of other systems at POST /v1/events/{preset}: docs/presets.md. */
export const events = z.strictObject({}).prefault({});
