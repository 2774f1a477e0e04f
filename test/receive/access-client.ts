import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';

/** What a client of the access API has: the .proto file, read by a full library. */
const root = new protobuf.Root();
for (const name of ['struct', 'timestamp', 'duration']) {
  root.addJSON(protobuf.common.get(`google/protobuf/${name}.proto`)?.nested ?? {});
}
protobuf.parse(readFileSync('proto/spantrail/access/v1/access.proto', 'utf8'), root);

/** A RecordRequest of events as messages of access.proto: times and durations as `{ seconds, nanos }`, attributes as a Struct. */
export function encodeRecordRequest(events: readonly object[]): Buffer {
  const type = root.lookupType('spantrail.access.v1.RecordRequest');
  return Buffer.from(type.encode(type.fromObject({ events })).finish());
}

export function decodeReceipt(bytes: Uint8Array | undefined): Record<string, unknown> {
  const type = root.lookupType('spantrail.access.v1.RecordResponse');
  return type.toObject(type.decode(bytes ?? new Uint8Array()), { defaults: true });
}
