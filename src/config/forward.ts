import { z } from 'zod';
import { sizeBytes } from './values.ts';

/** It signs what instances tell one another: guessing it would be stating anybody's events. */
const SECRET_CHARS_MIN = 32;

const secret = z
  .string()
  .min(SECRET_CHARS_MIN, `must have at least ${SECRET_CHARS_MIN} characters: openssl rand -hex 32 prints a good one`);

/** As gRPC allows it; what ends with -bin would have to be bytes. */
const HEADER = /^(?!.*-bin$)[a-z0-9_.-]+$/i;

/** Several instances: where events go that came directly to one and belong to a trace that another has. docs/growth.md. */
export const forward = z
  .strictObject({
    endpoint: z
      .url({ protocol: /^https?$/, error: 'must be an address like http://collector:4317; https for TLS' })
      .optional()
      .describe(
        'OTLP over gRPC of the Collector in front of all instances. Events of the access API and of webhooks that belong to a trace go there, and come back to the instance that has the trace. Without it they are joined where they came.',
      ),
    secret: secret
      .optional()
      .describe('Signs and checks forwarded events: the same in all instances; better given as ${env:NAME}.'),
    formerSecret: secret
      .optional()
      .describe('Accepted as well while `secret` is replaced, until all instances have the new one.'),
    headers: z
      .record(
        z.string().regex(HEADER, 'must be a header name of a-z, 0-9, -, _ and . that does not end with -bin'),
        z.string(),
      )
      .default({})
      .describe('Sent with each request, such as authorization.'),
    tls: z
      .strictObject({
        caFile: z.string().optional().describe('PEM file of the authority that signed the Collector’s certificate.'),
        certFile: z.string().optional().describe('PEM file of a client certificate, with `keyFile`.'),
        keyFile: z.string().optional().describe('PEM file of its key.'),
      })
      .prefault({})
      .refine((tls) => (tls.certFile === undefined) === (tls.keyFile === undefined), {
        message: 'certFile and keyFile belong together',
      }),
    waitingBytesMax: sizeBytes('256MiB').describe(
      'Disk for events that wait until the Collector takes them. Over it: UNAVAILABLE, 503 for events of a trace.',
    ),
  })
  .prefault({})
  .refine((given) => given.endpoint === undefined || given.secret !== undefined, {
    path: ['secret'],
    message: 'is needed with forward.endpoint, the same in all instances: openssl rand -hex 32 prints a good one',
  });
