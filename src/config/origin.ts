import { z } from 'zod';

/** Trusted proxies and databases of places: docs/origin.md. */
export const origin = z.strictObject({}).prefault({});
