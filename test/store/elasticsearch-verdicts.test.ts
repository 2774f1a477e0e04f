import { describe, expect, it } from 'vitest';
import { verdictOn } from '../../src/store/elasticsearch/verdicts.ts';

describe('what a bulk answer means', () => {
  it.each([
    [200, '', '', 'done'],
    [201, '', '', 'done'],
    [409, 'version_conflict_engine_exception', 'current version is higher', 'done'],
    [400, 'document_parsing_exception', '[1:24] object mapping tried to parse as object', 'refused'],
    [400, 'mapper_parsing_exception', 'failed to parse', 'refused'],
    [400, 'strict_dynamic_mapping_exception', 'introduction of [x] is not allowed', 'refused'],
    [400, 'illegal_argument_exception', 'Document contains at least one immense term in field="x"', 'refused'],
    [400, 'illegal_argument_exception', 'this action would add [2] shards, but …', 'cluster'],
    [400, 'illegal_argument_exception', 'pipeline with id [x] does not exist', 'cluster'],
    [400, 'illegal_argument_exception', 'something else', 'unknown'],
    [400, 'validation_exception', 'Validation Failed: 1: this action would add [2] shards', 'cluster'],
    [400, 'index_closed_exception', 'closed', 'cluster'],
    [403, 'cluster_block_exception', 'index [x] blocked by: [FORBIDDEN/12/read-only]', 'cluster'],
    [429, 'cluster_block_exception', 'index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded]', 'cluster'],
    [400, 'cluster_block_exception', 'blocked', 'cluster'],
    [403, 'security_exception', 'action [indices:data/write/bulk] is unauthorized', 'cluster'],
    [404, 'index_not_found_exception', 'no such index and [action.auto_create_index] is off', 'cluster'],
    [429, 'es_rejected_execution_exception', 'rejected', 'cluster'],
    [503, 'unavailable_shards_exception', 'primary shard is not active', 'cluster'],
    [429, 'circuit_breaking_exception', '[parent] Data too large', 'cluster'],
    [500, 'node_not_connected_exception', 'node is away', 'cluster'],
    [503, '', 'the cluster is busy', 'cluster'],
    [400, 'content_too_long_exception', 'larger than the cluster takes (413)', 'refused'],
    [400, 'new_kind_of_exception', 'never heard of', 'unknown'],
    [500, 'null_pointer_exception', '', 'unknown'],
  ] as const)('%i %s %s: %s', (status, type, reason, verdict) => {
    expect(verdictOn({ status, type, reason }, false)).toBe(verdict);
  });

  it('nothing to delete is as good as deleted', () => {
    const outcome = { status: 404, type: '', reason: '' };
    expect(verdictOn(outcome, true)).toBe('done');
    expect(verdictOn(outcome, false)).toBe('cluster');
  });
});
