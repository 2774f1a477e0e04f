import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A block of a docs page, with the comment right above it that says what the test makes of it. */
export interface Block {
  /** The heading that it stands below. */
  readonly section: string;
  /** First word of the comment; empty when there is none. */
  readonly mark: string;
  /** The rest of the comment. */
  readonly words: string;
  readonly text: string;
}

const BLOCK = /(?:<!-- (\S+)(?: (.*?))? -->\n)?^```.*\n([\s\S]*?)^```$/gm;

/** All blocks of a page below docs, in order. */
export function blocksOf(name: string): Block[] {
  const page = readFileSync(join(import.meta.dirname, '../../docs', name), 'utf8');
  return page.split(/^## /m).flatMap((part) => {
    const section = part.slice(0, part.indexOf('\n'));
    return [...part.matchAll(BLOCK)].map(([, mark = '', words = '', text = '']) => ({ section, mark, words, text }));
  });
}
