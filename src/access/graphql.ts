import { SPAN_KIND, type Span } from '../core/evidence.ts';
import type { AccessTarget } from './access.ts';
import { clip, serviceOf, textOf } from './attributes.ts';
import { type Draft, joined, resultOfStatus, targetOf, typesOf } from './draft.ts';

const TYPE = ['graphql.operation.type'];
const NAME = ['graphql.operation.name'];
/** The document, as the conventions and as Node's instrumentation call it. */
const DOCUMENT = ['graphql.document', 'graphql.source'];

/** Without any of these a span is no operation. */
export const STATED_OPERATION = [...TYPE, ...NAME];

/** Attribute keys that the decoder must keep. */
export const GRAPHQL_KEYS = [...TYPE, ...NAME, ...DOCUMENT, 'graphql.field.name'];

/** What an operation without a name asks for first: `{ order(id: *) { … } }` asks for `order`. */
const FIRST_FIELD = /\{\s*(?:#[^\n]*\s*)*(?:\w+\s*:\s*)?(\w+)/;

interface GraphqlOperation {
  readonly action: string;
  readonly name: string;
}

/** The operation that a span ran as a whole; the spans of its fields, of parsing and validating it tell none. */
export function graphqlOperation({ attributes }: Span): GraphqlOperation | undefined {
  const type = textOf(attributes, TYPE);
  const stated = textOf(attributes, NAME);
  if ((type === undefined && stated === undefined) || attributes.has('graphql.field.name')) return undefined;
  const document = textOf(attributes, DOCUMENT);
  const asked = document === undefined ? undefined : FIRST_FIELD.exec(document)?.[1];
  return { action: type ?? 'query', name: clip(stated ?? asked ?? '(unnamed)', 256) };
}

/** The ECS event type. */
export function typeOfOperation({ action }: GraphqlOperation): string {
  return action === 'mutation' ? 'change' : 'access';
}

export function targetOfOperation({ name }: GraphqlOperation, service: string | undefined): AccessTarget {
  return targetOf('graphql operation', joined(service, name), name, service);
}

/** An operation of GraphQL, in whatever service it ran. */
export function readGraphql(span: Span): Draft | undefined {
  const operation = graphqlOperation(span);
  if (operation === undefined || span.kind === SPAN_KIND.client) return undefined;
  const result = resultOfStatus(span);
  const service = serviceOf(span);
  return {
    preset: 'graphql',
    action: operation.action,
    category: ['web'],
    type: typesOf(typeOfOperation(operation), result),
    kind: 'event',
    target: targetOfOperation(operation, service),
    ...result,
    sections: {},
  };
}
