/**
 * Gives the memory of a large buffer, which nobody may use any more, back at once: V8 goes through all that is old when there is
 * much of it that nobody has any more.
 */
export function letGo({ buffer }: Buffer): void {
  // Smaller ones may share theirs with others.
  if (buffer instanceof ArrayBuffer && buffer.byteLength > Buffer.poolSize) buffer.transfer(0);
}
