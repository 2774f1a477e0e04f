import type { AttributeValue } from '../../core/evidence.ts';

/** The fields of a record as its system wrote them. */
export type Document = Readonly<Record<string, unknown>>;

/** Steps of a path. Real ones have at most eight. */
export const PATH_STEPS_MAX = 16;
/** Items of a list of structures that a path looks into. */
const ITEMS_MAX = 64;

export type Lookup = (document: Document) => AttributeValue | undefined;

/**
 * Finds what a path names: `user.username`, `resources.0.ARN`. A key may hold dots itself (`annotations.authorization.k8s.io/decision`,
 * or fields that were flattened): at each level the longest key that is there is taken. A step into a list of structures gives the
 * list of what each has.
 */
export function compilePath(path: string): Lookup {
  const steps = path.split('.');
  if (steps.length === 1) return (document) => known(own(document, path));
  const keys = steps.map((_, start) =>
    steps.slice(start).map((_, index) => steps.slice(start, start + index + 1).join('.')),
  );
  return (document) => known(descend(document, 0, keys));
}

/** `keys[n]` are the keys that may follow step n, from one step to all that are left. */
function descend(node: unknown, start: number, keys: readonly (readonly string[])[]): unknown {
  const left = keys[start];
  if (left === undefined) return node;
  if (Array.isArray(node)) {
    const [first = ''] = left;
    if (/^\d{1,4}$/.test(first)) return descend(node[Number(first)], start + 1, keys);
    const found = node.slice(0, ITEMS_MAX).map((item: unknown) => descend(item, start, keys));
    const values = found.filter((value) => value !== undefined && value !== null);
    return values.length > 0 ? values : undefined;
  }
  if (typeof node !== 'object' || node === null) return undefined;
  for (let taken = left.length; taken > 0; taken--) {
    const child = own(node as Document, left[taken - 1] as string);
    const found = child === undefined ? undefined : descend(child, start + taken, keys);
    if (found !== undefined && found !== null) return found;
  }
  return undefined;
}

function own(document: Document, key: string): unknown {
  return Object.hasOwn(document, key) ? document[key] : undefined;
}

/** A value of JSON is one of OTLP's but for null. */
function known(value: unknown): AttributeValue | undefined {
  return value === null || value === undefined ? undefined : (value as AttributeValue);
}
