import { z } from 'zod';
import { FIELDS, type Field } from '../core/fields.ts';
import { ROUTES } from './contract.ts';
import type { Route } from './route.ts';

interface Schema {
  type: string;
  format?: string;
  description?: string;
  items?: Schema;
  properties?: Record<string, Schema>;
}

/** OpenAPI 3.1 of the whole API, made from the contract and the field catalogue. */
export function openApiDocument(version: string): object {
  return {
    openapi: '3.1.0',
    info: { title: 'Spantrail', version, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    paths: pathItems(),
    components: {
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'Where authentication is on: docs/api-access.md' },
        certificate: { type: 'mutualTLS' },
      },
      schemas: {
        AuditRecord: recordSchema(),
        Error: z.toJSONSchema(
          z.object({
            error: z.object({ code: z.string(), message: z.string(), column: z.int().optional() }),
          }),
        ),
      },
    },
  };
}

function pathItems(): Record<string, Record<string, object>> {
  const items: Record<string, Record<string, object>> = {};
  for (const route of ROUTES) {
    items[route.path] = { ...items[route.path], [route.method?.toLowerCase() ?? 'get']: operation(route) };
  }
  return items;
}

const MEDIA: Readonly<Record<Route['answers'], string>> = {
  json: 'application/json',
  ndjson: 'application/x-ndjson',
  sse: 'text/event-stream',
  text: 'text/plain',
  html: 'text/html',
};

function operation(route: Route): object {
  const inPath = [...route.path.matchAll(/\{(\w+)\}/g)].map((match) => ({
    name: match[1],
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
  const schema = route.query ? (z.toJSONSchema(route.query, { io: 'input' }) as { properties?: object }) : {};
  const inQuery = Object.entries(schema.properties ?? {}).map(([name, value]) => ({
    name,
    in: 'query',
    schema: value,
  }));
  const failure = {
    description: 'Refused',
    content: { [MEDIA.json]: { schema: { $ref: '#/components/schemas/Error' } } },
  };
  return {
    summary: route.summary,
    operationId: `${route.method?.toLowerCase() ?? ''}${route.path.replace(/^\/(api\/v1\/)?/, '/')}`
      .replace(/^\W+|\W+$/g, '')
      .replace(/\W+(\w)/g, (_, letter: string) => letter.toUpperCase()),
    parameters: [...inPath, ...inQuery],
    // What one must be allowed to do.
    ...(route.needs && { 'x-needs': route.needs, security: [{ token: [] }, { certificate: [] }, {}] }),
    responses: {
      200: { description: route.summary, content: { [MEDIA[route.answers]]: {} } },
      ...(route.needs ? { 401: failure, 403: failure } : {}),
      ...(route.query || inPath.length > 0 ? { 400: failure, 404: failure } : {}),
    },
  };
}

function recordSchema(): Schema {
  const root: Schema = { type: 'object', properties: {} };
  for (const field of FIELDS) {
    const keys = field.name.split('.');
    let node = root;
    for (const key of keys.slice(0, -1)) {
      node.properties ??= {};
      node.properties[key] ??= { type: 'object', properties: {} };
      node = node.properties[key];
    }
    const last = keys.at(-1);
    if (last !== undefined && node.properties) node.properties[last] = fieldSchema(field);
  }
  return root;
}

function fieldSchema(field: Field): Schema {
  const single = ((): Schema => {
    switch (field.type) {
      case 'boolean':
        return { type: 'boolean' };
      case 'long':
        return { type: 'integer' };
      case 'double':
        return { type: 'number' };
      case 'duration':
        return { type: 'integer', description: 'nanoseconds' };
      case 'date':
        return { type: 'string', format: 'date-time' };
      default:
        return { type: 'string' };
    }
  })();
  return field.many ? { type: 'array', items: single } : single;
}
