import { z } from 'zod';
import { durationMs } from './values.ts';

/** Trusted proxies and databases of places: docs/origin.md. */
export const origin = z
  .strictObject({
    trustedProxies: z
      .array(z.string())
      .default(['127.0.0.0/8', '::1/128'])
      .describe('Networks of the proxies whose forwarded headers are believed, such as 10.1.0.0/16.'),
    headers: z
      .array(z.string())
      .default([
        'x-forwarded-for',
        'forwarded',
        'x-real-ip',
        'cf-connecting-ip',
        'true-client-ip',
        'fastly-client-ip',
        'fly-client-ip',
        'x-envoy-external-address',
        'x-azure-clientip',
        'x-client-ip',
      ])
      .describe('Captured request headers that name the client, in order of precedence.'),
    databases: z
      .array(z.string().min(1))
      .default([])
      .describe('Your own mmdb files for country, city and AS of source.ip. Read again when they are replaced.'),
    reloadMs: durationMs('30s')
      .refine((wait) => wait >= 100, 'must be at least 100ms')
      .describe('How often it is looked whether a database was replaced.'),
  })
  .prefault({});
