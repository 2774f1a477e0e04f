export function ascending<T extends string | bigint>(left: T, right: T): number {
  return left < right ? -1 : left > right ? 1 : 0;
}

/** The items in order, sorted in place. Most come in order already, which is cheaper to find out than to sort. */
export function sorted<T>(items: T[], compare: (left: T, right: T) => number): T[] {
  for (let index = 1; index < items.length; index += 1) {
    if (compare(items[index - 1] as T, items[index] as T) > 0) return items.sort(compare);
  }
  return items;
}
