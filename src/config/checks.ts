import { z } from 'zod';

/** Which spans and statements are authorisation checks: docs/why.md. */
export const checks = z.strictObject({}).prefault({});
