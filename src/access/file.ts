import { SPAN_KIND, type Span } from '../core/evidence.ts';
import type { AccessTarget } from './access.ts';
import { clip, compact, countOf, NAMES, serviceOf, textOf } from './attributes.ts';
import { type Draft, errorOf, failed, headline, type Result, resultOfStatus, targetOf, typesOf } from './draft.ts';
import { rpcNames } from './rpc.ts';

/** ECS event types by what an operation's name begins with; the first that fits. */
const TYPE_BY_OPERATION: readonly (readonly [RegExp, string])[] = [
  [/^(?:unlink|rm|remove|delete|abort)/i, 'deletion'],
  [/^(?:create|mkdir|mkdtemp|link|symlink)/i, 'creation'],
  [/^(?:write|append|truncate|chmod|chown|rename|copy|cp|put|post|upload|complete|restore|l?utimes)/i, 'change'],
];

export function typeOfOperation(operation: string): string {
  return TYPE_BY_OPERATION.find(([pattern]) => pattern.test(operation))?.[1] ?? 'access';
}

/** A span about a file: `file.path`, with the operation in an attribute or as the span's name (`fs readFile`). */
export function readFile(span: Span): Draft | undefined {
  const path = textOf(span.attributes, NAMES.filePath);
  if (path === undefined || span.kind === SPAN_KIND.server) return undefined;
  const action = textOf(span.attributes, NAMES.fileOperation) ?? (span.name.split(/[\s.:]+/).at(-1) || 'access');
  const result = resultOfStatus(span);
  const name = path.split(/[/\\]/).findLast((part) => part !== '') ?? path;
  return {
    preset: 'file',
    action,
    category: ['file'],
    type: typesOf(typeOfOperation(action), result),
    kind: 'event',
    target: targetOf('file', path, name, serviceOf(span)),
    ...result,
    sections: { file: { path, name } },
  };
}

/** A call to S3 or what speaks its protocol. */
export function readObjectStore(span: Span): Draft | undefined {
  if (span.kind === SPAN_KIND.server) return undefined;
  const bucket = textOf(span.attributes, NAMES.s3Bucket);
  const { service, method } = rpcNames(span);
  const system = textOf(span.attributes, NAMES.rpcSystem);
  if (bucket === undefined && (system !== 'aws-api' || service !== 'S3')) return undefined;
  const key = textOf(span.attributes, NAMES.s3Key);
  const copied = textOf(span.attributes, NAMES.s3CopySource);
  const action = method ?? (span.name.split(/[\s./]+/).at(-1) || 'access');
  const status = countOf(span.attributes, NAMES.httpStatus);
  const result = resultOfStore(span, status);
  return {
    preset: 'object_store',
    action,
    category: ['file'],
    type: typesOf(typeOfOperation(action), result),
    kind: 'event',
    target: storeTarget(bucket, key, copied),
    ...result,
    sections: compact({
      rpc: compact({ system, service, method }),
      http: status === undefined ? undefined : { response: { status_code: status } },
    }),
  };
}

/** An object, else the bucket that was listed or made, else the store. What a copy was made of stands in the name. */
function storeTarget(bucket: string | undefined, key: string | undefined, copied: string | undefined): AccessTarget {
  const to = [bucket, key].filter(Boolean).join('/');
  const source = copied?.replace(/^\//, '');
  if (source !== undefined) return targetOf('object', to || source, to ? clip(`${to} from ${source}`) : source, 'S3');
  if (bucket === undefined && key === undefined) return targetOf('service', 'S3', undefined, 'S3');
  return targetOf(key === undefined ? 'bucket' : 'object', to, key ?? bucket, 'S3');
}

function resultOfStore(span: Span, status: number | undefined): Result {
  if (status === undefined || status < 400) return resultOfStatus(span);
  const error = errorOf(span);
  const detail = headline(error?.message) ?? error?.type;
  return failed(
    status === 401 || status === 403 ? 'deny' : 'none',
    detail ? `${status} from S3: ${detail}` : `${status} from S3`,
    error,
  );
}
