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
  readonly #output = new JournalOutput(Buffer.allocUnsafe(64));
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
  if (isPacked(places)) {
    output.number(places.frames);
    output.bytes(places.bytes);
  } else encodeSorted(output, isSorted(places) ? places : [...places].sort(comparePlaces));
}

/** As nearly always: they are taken in the order in which they came. */
function isSorted(places: readonly EvidencePlace[]): boolean {
  for (let index = 1; index < places.length; index++) {
    if (comparePlaces(places[index - 1] as EvidencePlace, places[index] as EvidencePlace) > 0) return false;
  }
  return true;
}

/** What `PlacePacker` packs, straight into the entry: most traces have few places, in one frame or some. */
function encodeSorted(output: JournalOutput, places: readonly EvidencePlace[]): void {
  let frames = 0;
  for (let start = 0; start < places.length; start = endOfFrame(places, start)) frames++;
  output.number(frames);
  let [segment, offset] = [0, 0];
  for (let start = 0; start < places.length; ) {
    const end = endOfFrame(places, start);
    const first = places[start] as EvidencePlace;
    output.number(first.segment - segment);
    output.number(first.offset - (first.segment === segment ? offset : 0));
    output.number((end - start) * 2 + Number(first.isLog));
    let before = 0;
    for (; start < end; start++) {
      const { itemStart } = places[start] as EvidencePlace;
      output.number(itemStart - before);
      before = itemStart;
    }
    segment = first.segment;
    offset = first.offset;
  }
}

/** Where the places of another frame, or signal, begin. */
function endOfFrame(places: readonly EvidencePlace[], start: number): number {
  const { segment, offset, isLog } = places[start] as EvidencePlace;
  let end = start + 1;
  for (; end < places.length; end++) {
    const place = places[end] as EvidencePlace;
    if (place.offset !== offset || place.segment !== segment || place.isLog !== isLog) break;
  }
  return end;
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
