import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeError } from '../../src/core/errors.ts';
import type { Random } from '../simulation/random.ts';
import { mutate } from './mutate.ts';
import { FuzzFailure, type Target } from './target.ts';

/** Small inputs, real ones and those that found something, by target: `<target>/<name>`. */
export const CORPUS = join(import.meta.dirname, 'corpus');

/** Inputs that stay to be changed further: the samples, the corpus, and a few of those made lately. */
const POOL_MAX = 200;

/** Tries of making a failing input smaller. */
const MINIMISE_TRIES_MAX = 2_000;

export function corpusOf(target: string): { name: string; bytes: Buffer }[] {
  const folder = join(CORPUS, target);
  let names: string[] = [];
  try {
    names = readdirSync(folder).sort();
  } catch {
    // A target without files of its own.
  }
  return names.map((name) => ({ name: `${target}/${name}`, bytes: readFileSync(join(folder, name)) }));
}

/** What is wrong with the decoder for this input; undefined when nothing is. */
export async function faultOf(target: Target, input: Buffer): Promise<string | undefined> {
  const copy = Buffer.from(input);
  try {
    await target.check(copy);
    return copy.equals(input) ? undefined : 'the input was changed';
  } catch (thrown) {
    return thrown instanceof FuzzFailure ? thrown.message : `threw ${thrown instanceof Error ? thrown.stack : thrown}`;
  }
}

export interface Found {
  readonly target: string;
  readonly file: string;
  readonly fault: string;
}

export interface FuzzOptions {
  readonly target: Target;
  readonly random: Random;
  readonly messages: number;
  /** Told of each input before it is tried: what is being tried when a decoder does not come back. */
  readonly trying?: (input: Buffer) => void;
}

/** Tries as many inputs; stops at the first that fails, which is made smaller and kept in the corpus. */
export async function fuzzTarget({ target, random, messages, trying }: FuzzOptions): Promise<Found | undefined> {
  const files = [...corpusOf(target.name), ...(target.corpus === undefined ? [] : corpusOf(target.corpus))];
  const first = [...target.samples, ...files.map(({ bytes }) => bytes)];
  const pool = [...first];
  for (let message = 0; message < messages; message++) {
    const isNew = target.generate !== undefined && random.chance(0.1);
    const input = isNew ? target.generate(random) : mutate(random.pick(pool), random, pool, target.tokens ?? []);
    // Changes of changes reach further than changes of the samples.
    if (random.chance(0.02)) {
      if (pool.length < POOL_MAX) pool.push(input);
      else pool[random.int(first.length, POOL_MAX - 1)] = input;
    }
    trying?.(input);
    const fault = await faultOf(target, input);
    if (fault !== undefined) return keep(target, await minimise(target, input), fault);
  }
  return undefined;
}

/** Takes away what the fault does not need, in ever smaller pieces. */
async function minimise(target: Target, input: Buffer): Promise<Buffer> {
  let best = input;
  let tries = 0;
  for (let size = Math.ceil(best.length / 2); size >= 1 && tries < MINIMISE_TRIES_MAX; size = Math.floor(size / 2)) {
    for (let at = 0; at < best.length && tries < MINIMISE_TRIES_MAX; tries++) {
      const smaller = Buffer.concat([best.subarray(0, at), best.subarray(at + size)]);
      if ((await faultOf(target, smaller)) !== undefined) best = smaller;
      else at += size;
    }
  }
  return best;
}

async function keep(target: Target, input: Buffer, fault: string): Promise<Found> {
  const name = `found-${createHash('sha256').update(input).digest('hex').slice(0, 12)}`;
  mkdirSync(join(CORPUS, target.name), { recursive: true });
  writeFileSync(join(CORPUS, target.name, name), input);
  const said = (await faultOf(target, input)) ?? fault;
  return { target: target.name, file: `test/fuzz/corpus/${target.name}/${name}`, fault: describeError(said) };
}
