import { describe, expect, test } from 'vitest';
import { WriteSize } from '../../src/app/pump-size.ts';

describe('how many records are gathered behind a write', () => {
  test('few at first, twice as many each time that they wait for it, up to the settings', () => {
    const size = new WriteSize(1_000);
    const seen = [size.records];
    for (let times = 0; times < 3; times++) {
      size.grow();
      seen.push(size.records);
    }
    expect(seen).toEqual([256, 512, 1_000, 1_000]);
  });

  test('fewer again when less than half is due, and never fewer than at first', () => {
    const size = new WriteSize(1_000);
    size.grow();
    size.restAt(256);
    expect(size.records).toBe(512);
    size.restAt(255);
    expect(size.records).toBe(256);
    size.restAt(0);
    expect(size.records).toBe(256);
  });

  test('never more than the settings say', () => {
    const size = new WriteSize(4);
    expect(size.records).toBe(4);
    size.restAt(0);
    expect(size.records).toBe(4);
    size.grow();
    expect(size.records).toBe(4);
  });
});
