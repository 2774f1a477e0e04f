export function ascending<T extends string | bigint>(left: T, right: T): number {
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Up to here items are put in order by insertion, which makes no list and no call into the runtime. */
const FEW = 24;

/** The items in order, sorted in place; equal ones stay as they were. Most come in order already, which is cheaper to find out than to sort. */
export function sorted<T>(items: T[], compare: (left: T, right: T) => number): T[] {
  for (let index = 1; index < items.length; index += 1) {
    if (compare(items[index - 1] as T, items[index] as T) <= 0) continue;
    if (items.length > FEW) return items.sort(compare);
    insert(items, index, compare);
  }
  return items;
}

/** Moves the item at `index` down to its place among those before it, which are in order. */
function insert<T>(items: T[], index: number, compare: (left: T, right: T) => number): void {
  const item = items[index] as T;
  let at = index;
  for (; at > 0 && compare(items[at - 1] as T, item) > 0; at -= 1) items[at] = items[at - 1] as T;
  items[at] = item;
}
