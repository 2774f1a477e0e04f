import { z } from 'zod';

/** Which metrics are kept to be shown on records near in time: docs/pressure.md. */
export const pressure = z.strictObject({}).prefault({});
