/**
 * What an answer of Elasticsearch to one document means, in one table. The names are the server's (class names of its
 * exceptions in snake case, see its ElasticsearchException.getExceptionName).
 */

/** What became of one action: 200 and 201 done, 409 another version stands, 400 refused for good, 404 nothing to delete. */
export interface BulkOutcome {
  readonly status: number;
  /** The server's name for the error, empty for none. */
  readonly type: string;
  readonly reason: string;
}

/**
 * `done`: nothing more to do. `refused`: the document is at fault, and no other try will do. `cluster`: the cluster, the index
 * or our rights are; it is tried again until that is mended. `unknown`: nobody knows; it is tried again, and whoever
 * writes finds out whether others are taken meanwhile.
 */
export type Verdict = 'done' | 'refused' | 'cluster' | 'unknown';

interface Rule {
  readonly verdict: Verdict;
  readonly why: string;
  readonly statuses?: readonly number[];
  readonly types?: readonly string[];
  readonly reason?: RegExp;
}

/** The first rule that fits decides; without one it is `unknown`. */
const RULES: readonly Rule[] = [
  { verdict: 'done', why: 'written; or the version that is stored is higher', statuses: [200, 201, 409] },
  {
    verdict: 'cluster',
    why: 'the index takes no writes: its disk is full (disk.watermark.flood_stage), it is closed, blocked or gone',
    types: ['cluster_block_exception', 'index_closed_exception', 'index_not_found_exception'],
  },
  {
    verdict: 'cluster',
    why: 'too much at once: full queues, memory that the circuit breaker keeps free',
    types: ['es_rejected_execution_exception', 'circuit_breaking_exception'],
  },
  {
    verdict: 'cluster',
    why: 'a shard or node is away, restarting or moving',
    types: [
      'unavailable_shards_exception',
      'no_shard_available_action_exception',
      'shard_not_found_exception',
      'index_shard_closed_exception',
      'illegal_index_shard_state_exception',
      'index_primary_shard_not_allocated_exception',
      'already_closed_exception',
      'engine_failed_engine_exception',
      'node_not_connected_exception',
      'node_disconnected_exception',
      'node_closed_exception',
      'connect_transport_exception',
      'receive_timeout_transport_exception',
      'master_not_discovered_exception',
      'not_master_exception',
      'process_cluster_event_timeout_exception',
    ],
  },
  {
    verdict: 'cluster',
    why: 'the limit of shards (cluster.max_shards_per_node); no document is validated under this name',
    types: ['validation_exception'],
  },
  {
    verdict: 'cluster',
    why: 'rights or indices are missing; what passes by itself',
    statuses: [401, 403, 404, 408, 429],
  },
  { verdict: 'cluster', why: 'the node, or a proxy before it, cannot now', statuses: [502, 503, 504] },
  {
    verdict: 'refused',
    why: 'the document does not fit the mapping, is no document, or is larger than the cluster takes',
    statuses: [400],
    types: [
      'document_parsing_exception',
      'mapper_parsing_exception',
      'strict_dynamic_mapping_exception',
      'action_request_validation_exception',
      'parsing_exception',
      'x_content_parse_exception',
      'max_bytes_length_exceeded_exception',
      'content_too_long_exception',
    ],
  },
  {
    verdict: 'refused',
    why: 'a term longer than Lucene takes, or a value that is none, under the name that the server has for all kinds of things',
    statuses: [400],
    types: ['illegal_argument_exception'],
    reason: /immense term|failed to parse|document contains/i,
  },
  {
    verdict: 'cluster',
    why: 'how the cluster, the alias or the pipeline is set up, under that same name',
    statuses: [400],
    types: ['illegal_argument_exception'],
    reason: /this action would add|pipeline|write index|alias|Limit of total fields/i,
  },
];

/** What an outcome means. A delete of what is not there is done. */
export function verdictOn({ status, type, reason }: BulkOutcome, isDelete: boolean): Verdict {
  if (isDelete && status === 404) return 'done';
  const fitting = RULES.find(
    (rule) =>
      (rule.statuses === undefined || rule.statuses.includes(status)) &&
      (rule.types === undefined || rule.types.includes(type)) &&
      (rule.reason === undefined || rule.reason.test(reason)),
  );
  return fitting?.verdict ?? 'unknown';
}
