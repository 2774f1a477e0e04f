import { JournalInput, JournalOutput } from './journal-bytes.ts';

/** Where one piece of evidence lies in the write-ahead log: the frame, and the item's offset in the frame's payload. */
export interface EvidencePlace {
  readonly segment: number;
  readonly offset: number;
  readonly itemStart: number;
  readonly isLog: boolean;
}

/** The places of a huge trace as the journal has them: three or four bytes each, where objects would take 56. */
export interface PackedPlaces {
  /** How many they are. */
  readonly length: number;
  readonly frames: number;
  readonly bytes: Uint8Array;
}

export type EvidencePlaces = readonly EvidencePlace[] | PackedPlaces;

/** More places than this stay packed when they are read back. */
const UNPACKED_MAX = 4096;

export function comparePlaces(a: EvidencePlace, b: EvidencePlace): number {
  const frames = a.segment - b.segment || a.offset - b.offset;
  return frames || Number(a.isLog) - Number(b.isLog) || a.itemStart - b.itemStart;
}

function isPacked(places: EvidencePlaces): places is PackedPlaces {
  return 'bytes' in places;
}

/** In the order of the log if they are packed, else as they are. */
export function eachPlace(places: EvidencePlaces): Iterable<EvidencePlace> {
  return isPacked(places) ? readPlaces(new JournalInput(places.bytes), places.frames) : places;
}

/** Packs places that are added frame by frame in the order of the log; within a frame in any order. */
export class PlacePacker {
  readonly #output = new JournalOutput(64);
  #length = 0;
  #frames = 0;
  #segment = 0;
  #offset = 0;
  /** The frame that is being added to. */
  #of: EvidencePlace | undefined;
  #items: number[] = [];

  add(place: EvidencePlace): void {
    const of = this.#of;
    if (of?.segment !== place.segment || of.offset !== place.offset || of.isLog !== place.isLog) {
      this.#endFrame();
      this.#of = place;
    }
    this.#items.push(place.itemStart);
    this.#length++;
  }

  finish(): PackedPlaces {
    this.#endFrame();
    return { length: this.#length, frames: this.#frames, bytes: this.#output.part(0, this.#output.at) };
  }

  #endFrame(): void {
    if (this.#of === undefined) return;
    const { segment, offset, isLog } = this.#of;
    const output = this.#output;
    output.number(segment - this.#segment);
    output.number(offset - (segment === this.#segment ? this.#offset : 0));
    output.number(this.#items.length * 2 + Number(isLog));
    let before = 0;
    for (const itemStart of this.#items.sort((a, b) => a - b)) {
      output.number(itemStart - before);
      before = itemStart;
    }
    this.#segment = segment;
    this.#offset = offset;
    this.#frames++;
    this.#items = [];
    this.#of = undefined;
  }
}

export function encodePlaces(output: JournalOutput, places: EvidencePlaces): void {
  let packed = places as PackedPlaces;
  if (!isPacked(places)) {
    const packer = new PlacePacker();
    for (const place of [...places].sort(comparePlaces)) packer.add(place);
    packed = packer.finish();
  }
  output.number(packed.frames);
  output.bytes(packed.bytes);
}

export function decodePlaces(input: JournalInput): EvidencePlaces {
  const frames = input.number();
  const start = input.at;
  let length = 0;
  for (let left = frames; left > 0; left--) {
    input.number();
    input.number();
    const items = Math.floor(input.number() / 2);
    length += items;
    for (let item = 0; item < items; item++) input.number();
  }
  const packed = { length, frames, bytes: input.part(start, input.at) };
  return length > UNPACKED_MAX ? { ...packed, bytes: Buffer.from(packed.bytes) } : [...eachPlace(packed)];
}

function* readPlaces(input: JournalInput, frames: number): Generator<EvidencePlace> {
  let [segment, offset] = [0, 0];
  for (let frame = 0; frame < frames; frame++) {
    const segments = input.number();
    segment += segments;
    offset = input.number() + (segments === 0 ? offset : 0);
    const items = input.number();
    const isLog = items % 2 === 1;
    for (let left = Math.floor(items / 2), itemStart = 0; left > 0; left--) {
      itemStart += input.number();
      yield { segment, offset, itemStart, isLog };
    }
  }
}
