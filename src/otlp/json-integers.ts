const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const MINUS = 0x2d;

/** Integers of fewer digits are exact as JavaScript numbers. */
const LONG_DIGITS = 16;

/**
 * Puts quotes around the integers of a JSON text that a JavaScript number may not hold exactly (times in nanoseconds, 64-bit
 * values): where OTLP allows a number it allows it as text too. One pass over the bytes, because JSON.parse with a reviver
 * takes a microsecond for every value. Returns the same bytes when there is nothing to do; text that is no JSON stays so.
 */
export function quoteLongIntegers(json: Uint8Array): Uint8Array {
  /** Start and exclusive end of each. */
  const found: number[] = [];
  let at = 0;
  while (at < json.length) {
    const byte = json[at] as number;
    if (byte === QUOTE) at = stringEnd(json, at);
    else if (byte === MINUS || isDigit(byte)) {
      const start = at;
      at++;
      while (at < json.length && isDigit(json[at] as number)) at++;
      const digits = at - start - (byte === MINUS ? 1 : 0);
      if (digits >= LONG_DIGITS && !continuesNumber(json[at])) found.push(start, at);
      while (at < json.length && (isDigit(json[at] as number) || continuesNumber(json[at]))) at++;
    } else at++;
  }
  return found.length === 0 ? json : quoted(json, found);
}

/** Behind the string that opens at `at`. */
function stringEnd(json: Uint8Array, at: number): number {
  let end = at + 1;
  while (end < json.length && json[end] !== QUOTE) end += json[end] === BACKSLASH ? 2 : 1;
  return end + 1;
}

function quoted(json: Uint8Array, ranges: readonly number[]): Uint8Array {
  const result = Buffer.allocUnsafe(json.length + ranges.length);
  let from = 0;
  let length = 0;
  for (const at of ranges) {
    result.set(json.subarray(from, at), length);
    length += at - from;
    result[length++] = QUOTE;
    from = at;
  }
  result.set(json.subarray(from), length);
  return result;
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}

/** A fraction or an exponent: such numbers are doubles. */
function continuesNumber(byte: number | undefined): boolean {
  return byte === 0x2e || byte === 0x65 || byte === 0x45 || byte === 0x2b || byte === MINUS;
}
