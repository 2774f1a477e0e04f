import { syncBuiltinESMExports } from 'node:module';
import zlib, { type InputType, type ZstdOptions } from 'node:zlib';

/**
 * Compression otherwise runs on threads of the machine, which no virtual clock can wait for: the same seed would not give
 * the same run. Imported before everything that compresses.
 */
type Done = (error: Error | null, result: Buffer) => void;

function atOnce(act: (input: InputType, options?: ZstdOptions) => Buffer) {
  return (input: InputType, options: ZstdOptions | Done, done?: Done): void => {
    const given = typeof options === 'function' ? {} : options;
    const answer = typeof options === 'function' ? options : done;
    try {
      answer?.(null, act(input, given));
    } catch (thrown) {
      answer?.(thrown as Error, Buffer.alloc(0));
    }
  };
}

Object.assign(zlib, { zstdCompress: atOnce(zlib.zstdCompressSync), zstdDecompress: atOnce(zlib.zstdDecompressSync) });
syncBuiltinESMExports();
