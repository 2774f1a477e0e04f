import { expect } from 'vitest';
import { AttributeTable } from '../../src/core/attribute-table.ts';

/** Decoded attributes are what the Map of the same entries is. */
expect.addEqualityTesters([
  function areSame(left, right) {
    if (left instanceof AttributeTable && right instanceof Map) return this.equals(new Map(left), right);
    if (right instanceof AttributeTable && left instanceof Map) return this.equals(left, new Map(right));
    return undefined;
  },
]);
