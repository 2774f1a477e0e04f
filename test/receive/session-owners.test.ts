import { describe, expect, it } from 'vitest';
import { SessionOwners } from '../../src/receive/session-owners.ts';

const KEEP_MS = 24_000;
const ALICE = { id: 'alice' };
const BOB = { id: 'bob' };

function ownersWith(max = 10) {
  const owners = new SessionOwners({ max, keepMs: KEEP_MS });
  const at = (ms: number) => ({ earliestNs: BigInt(ms) * 1_000_000n, latestNs: BigInt(ms) * 1_000_000n });
  const ownerAt = (ms: number, id = 's') => owners.ownerOf('n', id, at(ms), 1_000_000);
  return { owners, ownerAt };
}

describe('whose a session is', () => {
  it('is known until nothing has named both for a time', () => {
    const { owners, ownerAt } = ownersWith();
    expect(ownerAt(1000)).toBeUndefined();
    expect(owners.learn('n', 's', ALICE, 1000)).toEqual({ namespace: 'n', id: 's', owner: ALICE, seenMs: 1000 });
    expect(ownerAt(1000 + KEEP_MS)).toEqual(ALICE);
    expect(ownerAt(1001 + KEEP_MS)).toBeUndefined();
    expect(owners.ownerOf('m', 's', { earliestNs: 0n, latestNs: 0n }, 1000)).toBeUndefined();
    // Seen again, it is kept on; only what moves it by much is news.
    expect(owners.learn('n', 's', ALICE, 1500)).toBeUndefined();
    expect(owners.learn('n', 's', ALICE, 9000)).toMatchObject({ seenMs: 9000 });
    expect(ownerAt(9000 + KEEP_MS)).toEqual(ALICE);
    // What came late does not shorten it.
    expect(owners.learn('n', 's', ALICE, 2000)).toBeUndefined();
    expect(ownerAt(9000 + KEEP_MS)).toEqual(ALICE);
  });

  it('is nobody once two people were seen in it', () => {
    const { owners, ownerAt } = ownersWith();
    owners.learn('n', 's', ALICE, 1000);
    expect(owners.learn('n', 's', BOB, 2000)).toEqual({ namespace: 'n', id: 's', seenMs: 2000 });
    expect(ownerAt(2000)).toBe('contested');
    expect(owners.learn('n', 's', ALICE, 3000)).toBeUndefined();
    expect(ownerAt(3000)).toBe('contested');
    owners.learn('n', 's', BOB, 2001 + KEEP_MS);
    expect(ownerAt(2001 + KEEP_MS)).toEqual(BOB);
  });

  it('is the same person under any name in common, with all that is known', () => {
    const { owners, ownerAt } = ownersWith();
    owners.learn('n', 's', { id: '7', name: 'alice' }, 1000);
    expect(owners.learn('n', 's', { id: 'Alice', email: 'a@x' }, 1001)).toMatchObject({
      owner: { id: '7', name: 'alice', email: 'a@x' },
    });
    owners.learn('n', 's', { id: 'a@x', roles: ['nurse'] }, 1002);
    expect(ownerAt(1002)).toEqual({ id: '7', name: 'alice', email: 'a@x', roles: ['nurse'] });
  });

  it('ends with a logout, for what is used later, until somebody else has it', () => {
    const { owners, ownerAt } = ownersWith();
    expect(owners.end('n', 's', 1000)).toBeUndefined();
    owners.learn('n', 's', ALICE, 1000);
    expect(owners.end('n', 's', 2000)).toMatchObject({ endedMs: 2000 });
    expect(owners.end('n', 's', 2500)).toBeUndefined();
    expect(ownerAt(2000)).toEqual(ALICE);
    expect(ownerAt(2001)).toBeUndefined();
    // Of before the end, and late.
    expect(owners.learn('n', 's', ALICE, 1900)).toBeUndefined();
    expect(ownerAt(2001)).toBeUndefined();
    owners.learn('n', 's', BOB, 3000);
    expect(ownerAt(3000)).toEqual(BOB);
    // A logout of an earlier time does not end it.
    expect(owners.end('n', 's', 2600)).toBeUndefined();
    expect(ownerAt(3000)).toEqual(BOB);
  });

  it('is known of so many, the longest unseen goes first', () => {
    const { owners, ownerAt } = ownersWith(2);
    owners.learn('n', 'a', ALICE, 1000);
    owners.learn('n', 'b', ALICE, 1001);
    owners.learn('n', 'a', ALICE, 9000);
    owners.learn('n', 'c', ALICE, 9001);
    expect([ownerAt(9001, 'a'), ownerAt(9001, 'b'), ownerAt(9001, 'c')]).toEqual([ALICE, undefined, ALICE]);
    expect(owners.size).toBe(2);
  });
});
