import { SPAN_KIND, type Span } from '../core/evidence.ts';
import { compact, NAMES, serviceOf, textOf } from './attributes.ts';
import { type Draft, resultOfStatus, typesOf } from './draft.ts';
import { clientSections } from './http.ts';

/** A tool that a model called, or a tool or resource asked for over the Model Context Protocol. */
export function readGenAi(span: Span): Draft | undefined {
  const operation = textOf(span.attributes, NAMES.genAiOperation) ?? 'execute_tool';
  const tool = operation === 'execute_tool' ? textOf(span.attributes, NAMES.toolName) : undefined;
  const method = textOf(span.attributes, NAMES.mcpMethod);
  const resource = method?.startsWith('resources/') ? textOf(span.attributes, NAMES.mcpResource) : undefined;
  // Other methods of the protocol (initialize, ping, tools/list) are housekeeping.
  if (resource === undefined && (tool === undefined || (method !== undefined && method !== 'tools/call')))
    return undefined;
  const result = resultOfStatus(span);
  const service = serviceOf(span);
  const id = resource ?? tool ?? span.name;
  return {
    preset: 'gen_ai.tool',
    action: resource === undefined ? 'execute_tool' : (method ?? 'resources/read'),
    category: ['api'],
    type: typesOf('access', result),
    kind: 'event',
    target: compact({ type: resource === undefined ? 'tool' : 'resource', id, name: id, service }),
    ...result,
    sections: {
      ...(tool === undefined ? {} : { gen_ai: { tool: { name: tool } } }),
      ...(span.kind === SPAN_KIND.server ? clientSections(span) : {}),
    },
  };
}
