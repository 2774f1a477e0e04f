import { SPAN_KIND, type Span } from '../core/evidence.ts';
import { NAMES, serviceOf, textOf } from './attributes.ts';
import { type Draft, resultOfStatus, targetOf, typesOf } from './draft.ts';
import { clientSections } from './http.ts';

/** The client of the protocol's Python SDK has the tool nowhere else: `MCP send tools/call get_weather`. */
function toolInName(name: string): string | undefined {
  return /(?:^|\s)tools\/call (\S+)$/.exec(name)?.[1];
}

/** A tool that a model called, or a tool or resource asked for over the Model Context Protocol. */
export function readGenAi(span: Span): Draft | undefined {
  const { attributes } = span;
  const method = textOf(attributes, NAMES.mcpMethod);
  const called = textOf(attributes, NAMES.toolName) ?? (method === 'tools/call' ? toolInName(span.name) : undefined);
  if (called === undefined && method === undefined) return undefined;
  const tool = (textOf(attributes, NAMES.genAiOperation) ?? 'execute_tool') === 'execute_tool' ? called : undefined;
  const resource = method?.startsWith('resources/') ? textOf(attributes, NAMES.mcpResource) : undefined;
  // Other methods of the protocol (initialize, ping, tools/list) are housekeeping.
  if (resource === undefined && (tool === undefined || (method !== undefined && method !== 'tools/call')))
    return undefined;
  const result = resultOfStatus(span);
  const id = resource ?? tool ?? span.name;
  return {
    preset: 'gen_ai.tool',
    action: resource === undefined ? 'execute_tool' : (method ?? 'resources/read'),
    category: ['api'],
    type: typesOf('access', result),
    kind: 'event',
    target: targetOf(resource === undefined ? 'tool' : 'resource', id, id, serviceOf(span)),
    ...result,
    sections: {
      ...(tool === undefined ? {} : { gen_ai: { tool: { name: tool } } }),
      ...(span.kind === SPAN_KIND.server ? clientSections(span) : {}),
    },
  };
}
