/** KQL in the words of Lucene, which is what Grafana's Elasticsearch data source speaks. */
import type { Query, QueryValue } from '../../src/query/ast.ts';
import { parseQuery } from '../../src/query/parse.ts';

/** Throws with the parser's words when the text is not in order. */
export function toLucene(kql: string): string {
  const parsed = parseQuery(kql, { nowMs: 0 });
  if (!parsed.ok) throw new Error(`${kql}: column ${parsed.column}: ${parsed.message}`);
  return print(parsed.query);
}

function print(query: Query): string {
  switch (query.kind) {
    case 'all':
      return '*:*';
    case 'and':
      return `(${query.parts.map(print).join(' AND ')})`;
    case 'or':
      return `(${query.parts.map(print).join(' OR ')})`;
    case 'not':
      // In Lucene a negation takes away from what stands beside it; alone it has nothing to take away from.
      return `(*:* AND NOT ${print(query.part)})`;
    case 'exists':
      return `_exists_:${query.field.name}`;
    case 'equals':
      return `${query.field.name}:${value(query.value)}`;
    case 'compare':
      return `${query.field.name}:${query.operator}${value(query.value)}`;
    default:
      throw new Error(
        `a dashboard's query has a condition of kind ${query.kind}, for which there are no words here yet`,
      );
  }
}

function value(of: QueryValue): string {
  return typeof of === 'string' ? `"${of.replace(/["\\]/g, '\\$&')}"` : String(of);
}
