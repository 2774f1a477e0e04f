import { z } from 'zod';

const patterns = z.union([z.string(), z.array(z.string()).min(1)]);

const rule = z.strictObject({
  name: z.string().min(1),
  when: z.record(z.string(), patterns),
  permission: z.string().min(1).optional(),
  target: z.string().min(1).optional(),
  granted: z.string().min(1).optional(),
  rule: z.string().min(1).optional(),
  engine: z.string().min(1).optional(),
});

const roleTable = z.strictObject({
  table: patterns,
  permission: z.string().min(1).optional(),
  target: z.string().min(1).optional(),
});

const host = z.strictObject({ host: patterns, engine: z.enum(['opa', 'spicedb']) });

/** Which spans, log records and statements are authorisation checks: docs/why.md. */
export const checks = z
  .strictObject({
    rules: z
      .array(rule)
      .default([])
      .describe(
        'Further spans and log records that are authorisation checks: `name`, `when`, and texts that may hold ${attribute} for `permission`, `target`, `granted`, `rule` and `engine`. Without `granted` it counts as what followed tells.',
      ),
    roleTables: z
      .array(roleTable)
      .default([])
      .describe(
        'Tables of roles and rights, as `table`, `database.table` or `schema.table` with `*`: a statement that reads one is a check of the request it belongs to, granted if that went on. `permission` and `target` may hold ${attribute}.',
      ),
    hosts: z
      .array(host)
      .default([])
      .describe(
        'Hosts (`name` or `name:port`, `*` as wildcard) at which a policy engine answers whose paths could be anybody’s: `opa` (/v1/data/…) or `spicedb` (/v1/permissions/check). Hosts that have the engine’s name in theirs, and port 8181 for opa, need no entry.',
      ),
  })
  .prefault({});

/** Where the purpose of an access is told. */
export const purpose = z
  .strictObject({
    purposes: z
      .array(z.string())
      .default(['purpose-of-use', 'x-purpose-of-use', 'access-purpose', 'purposeofuse'])
      .describe(
        'Names of captured request headers, baggage entries and span attributes that tell what an access is for. Dashes, underscores and dots are the same. Only trusted senders are believed.',
      ),
    tickets: z
      .array(z.string())
      .default(['ticket', 'ticket-id', 'x-ticket', 'x-ticket-id', 'x-change-ticket', 'change-ticket', 'case-id'])
      .describe('The same for the ticket or case that an access belongs to: `ticket OPS-7`.'),
    breakGlass: z
      .array(z.string())
      .default(['break-glass', 'x-break-glass', 'emergency-access', 'x-emergency-access'])
      .describe('The same for emergency access: `break-glass`, with the text that was given.'),
  })
  .prefault({});
