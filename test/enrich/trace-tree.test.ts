import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { criticalPath, selfTime } from '../../src/enrich/critical-path.ts';
import { pathHeads, pathIndexes } from '../../src/enrich/path.ts';
import { correctSkew } from '../../src/enrich/skew.ts';
import { buildTree, NONE } from '../../src/enrich/trace-tree.ts';
import { type SpanFields, span, spanId } from './evidence.ts';

function treeOf(...fields: SpanFields[]) {
  return buildTree(fields.map(span));
}

/** `child<parent` for each span, `child<` for one without a parent. */
function links(tree: ReturnType<typeof treeOf>): string[] {
  const short = (index: number): string => tree.spans[index]?.spanId.replace(/^0+/, '') ?? '';
  return tree.spans.map((_, index) => `${short(index)}<${short(tree.parent[index] ?? NONE)}`).sort();
}

describe('the tree of a trace', () => {
  it.each([
    { name: 'one root', spans: [{ id: '1' }, { id: '2', parent: '1' }], want: ['1<', '2<1'], shape: [1, 0, 0] },
    {
      name: 'a parent that never came',
      spans: [{ id: '1' }, { id: '3', parent: '2' }],
      want: ['1<', '3<'],
      shape: [1, 1, 1],
    },
    { name: 'its own parent', spans: [{ id: '1', parent: '1' }], want: ['1<'], shape: [1, 0, 0] },
    {
      name: 'a cycle loses the link of its smallest span id',
      spans: [
        { id: '3', parent: '2' },
        { id: '2', parent: '4' },
        { id: '4', parent: '3' },
        { id: '5', parent: '4' },
      ],
      want: ['2<', '3<2', '4<3', '5<4'],
      shape: [1, 0, 0],
    },
    {
      name: 'a cycle loses the link of an untrusted span first',
      spans: [
        { id: '2', parent: '3' },
        { id: '3', parent: '2', note: { trusted: false } },
      ],
      want: ['2<3', '3<'],
      shape: [1, 0, 0],
    },
    {
      name: 'two roots',
      spans: [{ id: '1' }, { id: '2' }, { id: '3', parent: '2' }],
      want: ['1<', '2<', '3<2'],
      shape: [2, 0, 2],
    },
  ] as { name: string; spans: SpanFields[]; want: string[]; shape: number[] }[])('$name', ({ spans, want, shape }) => {
    const tree = treeOf(...spans);
    expect(links(tree)).toEqual(want);
    expect([tree.roots, tree.missingParents, tree.orphans]).toEqual(shape);
  });

  it('is a forest with parents before children, whatever the links say', () => {
    const id = fc.integer({ min: 1, max: 12 }).map(String);
    fc.assert(
      fc.property(fc.uniqueArray(fc.record({ id, parent: id }), { selector: (entry) => entry.id }), (entries) => {
        const tree = treeOf(...entries);
        tree.parent.forEach((above, index) => {
          expect(above).toBeLessThan(index);
        });
        expect(links(treeOf(...entries.toReversed()))).toEqual(links(tree));
      }),
    );
  });

  it('gives a span without a start its end, and one without any time the start of its trace', () => {
    const tree = treeOf(
      { id: '1', ms: [3, 9] },
      { id: '2', times: [0n, span({ id: '1', ms: [0, 5] }).endNs] },
      { id: '3', times: [0n, 0n] },
    );
    const startOf = (id: string): number => tree.start[tree.indexOf.get(spanId(id)) ?? NONE] ?? NONE;
    expect([startOf('1'), startOf('2'), startOf('3')]).toEqual([0, 2e6, 0]);
  });
});

describe('clock skew', () => {
  const parent: SpanFields = { id: '1', kind: 'client', ms: [0, 100], service: 'web' };
  it.each([
    { name: 'a child that fits stays', child: { ms: [10, 90] }, shift: 0 },
    { name: 'a child that starts before its parent is centred', child: { ms: [-500, -460] }, shift: 530 },
    { name: 'a child that ends after its parent is centred', child: { ms: [80, 140] }, shift: -60 },
    { name: 'a longer child moves to its parent’s start', child: { ms: [-50, 100] }, shift: 50 },
    { name: 'a longer child that starts later stays', child: { ms: [10, 500] }, shift: 0 },
    { name: 'a server that was waited for is brought back', child: { ms: [700, 740], kind: 'server' }, shift: -670 },
    { name: 'work that goes on in the background stays', child: { ms: [700, 740] }, shift: 0 },
    { name: 'the same host has one clock', child: { ms: [-500, -460], service: 'web' }, shift: 0 },
    { name: 'a consumer takes its message when it likes', child: { ms: [50, 140], kind: 'consumer' }, shift: 0 },
  ] as { name: string; child: Partial<SpanFields>; shift: number }[])('$name', ({ child, shift }) => {
    const tree = treeOf(parent, { id: '2', parent: '1', ...child }, { id: '3', parent: '2', ...child });
    const timeline = correctSkew(tree);
    const shifts = tree.spans.map((_, index) => timeline.shift[index]);
    expect(shifts.toSorted()).toEqual([0, shift * 1e6, shift * 1e6].toSorted());
  });
});

describe('where the time went', () => {
  const spans: SpanFields[] = [
    { id: '1', ms: [0, 100] },
    { id: '2', parent: '1', ms: [10, 30] },
    { id: '3', parent: '1', ms: [20, 60] },
    { id: '4', parent: '1', ms: [60, 95] },
    { id: '5', parent: '4', ms: [70, 130] },
  ];

  it('takes the last child to finish, then the one that had finished before', () => {
    const tree = treeOf(...spans);
    const steps = criticalPath(tree, correctSkew(tree), 0).map((step) => [step.span_id.at(-1), step.self_time / 1e6]);
    expect(steps).toEqual([
      ['1', 25],
      ['3', 40],
      ['4', 10],
      ['5', 25],
    ]);
    expect(selfTime(tree, correctSkew(tree), 0) / 1e6).toBe(15);
  });

  it('accounts for exactly the duration of the span, whatever its children do', () => {
    const ms = fc.integer({ min: 0, max: 60 });
    const child = fc.record({ parent: fc.nat(7), start: ms, length: ms });
    fc.assert(
      fc.property(fc.array(child, { maxLength: 12 }), (children) => {
        const fields = children.map(({ parent, start, length }, index) => ({
          id: String(index + 2),
          parent: String(Math.min(parent, index) + 1),
          ms: [start, start + length] as const,
        }));
        const tree = treeOf({ id: '1', ms: [0, 50] }, ...fields);
        const timeline = correctSkew(tree);
        const root = tree.indexOf.get(spanId('1')) ?? NONE;
        const spent = criticalPath(tree, timeline, root).reduce((sum, step) => sum + step.self_time, 0);
        expect(spent).toBe(50e6);
        expect(selfTime(tree, timeline, root)).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});

describe('very deep and very wide traces', () => {
  const chain = (length: number): SpanFields[] =>
    Array.from({ length }, (_, index) => ({
      id: String(index + 1),
      parent: index === 0 ? '' : String(index),
      ms: [index / 1000, 100],
    }));

  it('keeps both ends of a path of 5,000 steps', () => {
    const tree = treeOf(...chain(5000));
    const path = pathIndexes(tree, pathHeads(tree), 4999).map((index) => Number(tree.spans[index]?.spanId));
    expect(path).toHaveLength(64);
    expect([path[0], path[31], path[32], path[63]]).toEqual([1, 32, 4969, 5000]);
    expect(pathIndexes(tree, pathHeads(tree), 63)).toHaveLength(64);
    expect(criticalPath(tree, correctSkew(tree), 0)).toHaveLength(64);
  });

  it('walks 20,000 children of one span', () => {
    const wide = Array.from({ length: 20_000 }, (_, index) => ({
      id: String(index + 2),
      parent: '1',
      ms: [index, index + 1] as const,
    }));
    const tree = treeOf({ id: '1', ms: [0, 20_000] }, ...wide);
    expect(selfTime(tree, correctSkew(tree), 0)).toBe(0);
    expect(criticalPath(tree, correctSkew(tree), 0)).toHaveLength(64);
  });
});
