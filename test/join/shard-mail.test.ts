import { describe, expect, it } from 'vitest';
import type { FrameNote } from '../../src/core/evidence.ts';
import { FACT_WORDS } from '../../src/core/span-columns.ts';
import { MailWriter, readMail } from '../../src/join/shard-mail.ts';
import type { StoredFrame } from '../../src/wal/frame.ts';
import { noteAt } from './world.ts';

const NOW_MS = 1_795_341_600_123;

function frameOf(offset: number, note: Partial<FrameNote> = {}): StoredFrame {
  const position = { segment: 7, offset };
  return { signal: 'traces', payload: Buffer.alloc(0), note: { ...noteAt(NOW_MS), ...note }, position, length: 0 };
}

function factsOf(count: number, word: number): Uint32Array {
  return new Uint32Array(count * FACT_WORDS).fill(word);
}

describe('mail to a shard', () => {
  it('brings frames in their order, with their spans, notes and times', () => {
    const mail = new MailWriter();
    const frames = [frameOf(32), frameOf(2 ** 31), frameOf(40, { sender: 'other', tokens: {} }), frameOf(50)];
    expect(mail.isEmpty).toBe(true);
    for (const [at, frame] of frames.entries()) mail.add(frame, factsOf(at * 200, at), NOW_MS + at, at === 1);
    expect([mail.isEmpty, mail.isFull]).toEqual([false, true]);
    const taken = mail.take();
    expect(mail.isEmpty).toBe(true);
    expect(taken.notes.length).toBe(3);
    const read = [...readMail(structuredClone(taken, { transfer: [taken.words.buffer] }))];
    expect(read).toEqual(
      frames.map(({ position, note }, at) => {
        const spans = { count: at * 200, facts: factsOf(at * 200, at) };
        return { position, note, isPlain: true, ...spans, nowMs: NOW_MS + at, isReplay: at === 1 };
      }),
    );
    mail.add(frameOf(60), factsOf(1, 2 ** 32 - 1), NOW_MS, false);
    expect([...readMail(mail.take())].map(({ facts }) => facts)).toEqual([factsOf(1, 2 ** 32 - 1)]);
  });

  it('leaves out what was found in a request, and says so', () => {
    const mail = new MailWriter();
    mail.add(frameOf(32, { tokens: { a: 'verified' }, sessions: {} }), factsOf(1, 1), NOW_MS, false);
    const [spans] = readMail(mail.take());
    expect(spans).toMatchObject({ isPlain: false, note: { namespace: 'default' } });
    expect(spans?.note.tokens).toEqual({});
    expect(spans?.note.sessions).toBeUndefined();
  });
});
