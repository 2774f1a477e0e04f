import { MemoryStore } from '../../src/store/memory.ts';
import { describeDifferential } from '../conformance/differential.ts';
import { describeStore } from '../conformance/store.ts';

async function open() {
  const store = new MemoryStore();
  return { store, dispose: () => store.close() };
}

describeStore('memory', open);
describeDifferential('memory', open);
