import type { Client, estypes } from '@elastic/elasticsearch';
import type { NamedField, Use } from './lens-query.ts';

/** Types of Elasticsearch that can do what a use asks. */
const FITTING: Readonly<Record<Use, readonly string[] | 'any'>> = {
  terms: ['keyword', 'ip', 'boolean', 'long'],
  number: ['long', 'double'],
  extreme: ['long', 'double', 'date_nanos'],
  time: ['date_nanos'],
  sorted: ['keyword', 'long', 'double', 'date_nanos'],
  shown: 'any',
  condition: 'any',
};

/** The type of every field in the mapping of the indices of a pattern, as the server states it. */
export async function readMapping(client: Client, index: string): Promise<Map<string, string>> {
  const types = new Map<string, string>();
  const walk = (properties: Record<string, estypes.MappingProperty>, prefix: string) => {
    for (const [key, property] of Object.entries(properties)) {
      if (property.type !== undefined && property.type !== 'object') types.set(`${prefix}${key}`, property.type);
      if ('properties' in property && property.properties) walk(property.properties, `${prefix}${key}.`);
    }
  };
  for (const { mappings } of Object.values(await client.indices.getMapping({ index })))
    walk(mappings.properties ?? {}, '');
  return types;
}

/** What is wrong with the fields that something names; empty when nothing is. */
export function fieldMistakes(
  where: string,
  fields: readonly NamedField[],
  mapping: ReadonlyMap<string, string>,
): string[] {
  return fields.flatMap(({ field, use }) => {
    const type = mapping.get(field);
    if (type === undefined) return [`${where}: the mapping has no field ${field}`];
    const fitting = FITTING[use];
    return fitting === 'any' || fitting.includes(type)
      ? []
      : [`${where}: ${field} is ${type}, which cannot be used as ${use}`];
  });
}
