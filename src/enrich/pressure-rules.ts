import { AppError } from '../core/errors.ts';

/**
 * Which metrics tell of a resource near its limit. All others are counted as context and not kept.
 *
 * What a point of a growing sum or a histogram is read as: `rate` is its growth a second (of a time: seconds a second, so that
 * 1 is always), `increase` its growth, `mean` a histogram's mean since the point before.
 */
export interface PressureRule {
  /** The metric's names, old and new. */
  readonly names: readonly string[];
  readonly reads?: 'rate' | 'increase' | 'mean';
  /** The limit: a number, or the names of the metrics that tell it. */
  readonly limit?: number | readonly string[];
  /** The names of metrics that tell how much is left: the limit is what is used and what is left. */
  readonly left?: readonly string[];
  /** Only points with one of these values in one of these attributes; those that have none of the attributes count, too. */
  readonly where?: { readonly attributes: readonly string[]; readonly values: readonly string[] };
  /** The attributes that tell one measured thing from the other (pools, disks). Points that differ in others add up. */
  readonly of?: readonly string[];
}

export interface PressureSetting {
  readonly metric: string;
  readonly reads?: 'rate' | 'increase' | 'mean' | undefined;
  readonly limit?: number | string | undefined;
  readonly of?: string | undefined;
}

const POOL = ['db.client.connection.pool.name', 'pool.name', 'pool'];
const IN_USE = { attributes: ['db.client.connection.state', 'state', 'status'], values: ['used', 'inuse'] };
const USED = { attributes: ['system.memory.state', 'system.filesystem.state', 'state'], values: ['used'] };
const MEMORY_POOL = ['jvm.memory.pool.name', 'pool', 'id'];
const HEAP = { attributes: ['jvm.memory.type', 'type', 'area'], values: ['heap'] };
const BUFFER_POOL = ['jvm.buffer.pool.name', 'pool'];
const EXECUTOR = ['name'];
const DISK = ['system.filesystem.mountpoint', 'mountpoint', 'system.device', 'device'];
const QUEUE = [
  ...['messaging.destination.name', 'topic', 'rabbitmq.queue.name', 'QueueName', 'queue'],
  ...['group', 'messaging.consumer.group.name'],
];
const CPU_LIMITS = ['container.cpu.limit', 'k8s.container.cpu.limit', 'k8s.container.cpu_limit'];
const MEMORY_LIMITS = [
  ...['container.memory.limit', 'container.memory.usage.limit', 'k8s.container.memory.limit'],
  'k8s.container.memory_limit',
];

/**
 * Names of the semantic conventions, old and new, and of what sends without them: the Collector's receivers (kubeletstats,
 * k8s_cluster, docker_stats, hostmetrics, kafkametrics, rabbitmq), Micrometer, otelsql.
 */
export const PRESSURE_RULES: readonly PressureRule[] = [
  // Connection pools
  {
    names: ['db.client.connection.count', 'db.client.connections.usage', 'db.sql.connection.open'],
    where: IN_USE,
    limit: ['db.client.connection.max', 'db.client.connections.max', 'db.sql.connection.max_open'],
    of: POOL,
  },
  { names: ['db.client.connection.pending_requests', 'db.client.connections.pending_requests'], of: POOL },
  { names: ['db.client.connection.timeouts', 'db.client.connections.timeouts'], reads: 'increase', of: POOL },
  { names: ['db.client.connection.wait_time', 'db.client.connections.wait_time'], reads: 'mean', of: POOL },
  { names: ['hikaricp.connections.active'], limit: ['hikaricp.connections.max'], of: POOL },
  { names: ['hikaricp.connections.pending'], of: POOL },
  { names: ['jdbc.connections.active'], limit: ['jdbc.connections.max'], of: EXECUTOR },
  // CPU and memory of containers and pods
  { names: ['k8s.container.cpu.limit_utilization', 'k8s.container.cpu_limit_utilization'], limit: 1 },
  { names: ['k8s.container.memory.limit_utilization', 'k8s.container.memory_limit_utilization'], limit: 1 },
  { names: ['k8s.pod.cpu.limit_utilization', 'k8s.pod.cpu_limit_utilization'], limit: 1 },
  { names: ['k8s.pod.memory.limit_utilization', 'k8s.pod.memory_limit_utilization'], limit: 1 },
  { names: ['container.cpu.usage'], limit: CPU_LIMITS },
  { names: ['container.cpu.time', 'container.cpu.usage.total'], reads: 'rate', limit: CPU_LIMITS },
  {
    names: ['container.memory.working_set', 'container.memory.usage', 'container.memory.usage.total'],
    limit: MEMORY_LIMITS,
    left: ['container.memory.available'],
  },
  { names: ['container.memory.percent'], limit: 100 },
  { names: ['container.filesystem.usage'], limit: ['container.filesystem.capacity'] },
  { names: ['k8s.pod.cpu.usage'] },
  { names: ['k8s.pod.memory.working_set', 'k8s.pod.memory.usage'], left: ['k8s.pod.memory.available'] },
  // Throttling
  {
    names: ['container.cpu.throttling_data.throttled_periods'],
    reads: 'increase',
    limit: ['container.cpu.throttling_data.periods'],
  },
  { names: ['container.cpu.throttling_data.throttled_time', 'container.cpu.throttled.time'], reads: 'rate' },
  // Event loops and garbage collection
  { names: ['nodejs.eventloop.utilization', 'nodejs.event_loop.utilization'], limit: 1 },
  { names: ['nodejs.eventloop.delay.p99', 'nodejs.event_loop.delay.p99'] },
  { names: ['v8js.gc.duration', 'nodejs.gc.duration'], reads: 'rate', limit: 1 },
  { names: ['jvm.gc.duration', 'process.runtime.jvm.gc.duration', 'jvm.gc.pause'], reads: 'rate', limit: 1 },
  { names: ['dotnet.gc.pause.time', 'process.runtime.dotnet.gc.duration'], reads: 'rate', limit: 1 },
  {
    names: ['jvm.memory.used', 'process.runtime.jvm.memory.usage'],
    limit: ['jvm.memory.limit', 'process.runtime.jvm.memory.limit', 'jvm.memory.max'],
    where: HEAP,
    of: MEMORY_POOL,
  },
  { names: ['jvm.buffer.memory.used'], limit: ['jvm.buffer.memory.limit'], of: BUFFER_POOL },
  { names: ['go.memory.used'], limit: ['go.memory.limit'] },
  // Queues and threads
  { names: ['executor.active'], limit: ['executor.pool.max'], of: EXECUTOR },
  { names: ['executor.queued'], left: ['executor.queue.remaining'], of: EXECUTOR },
  { names: ['tomcat.threads.busy'], limit: ['tomcat.threads.config.max'], of: EXECUTOR },
  {
    names: ['dotnet.thread_pool.queue.length', 'process.runtime.dotnet.thread_pool.queue.length'],
  },
  { names: ['kestrel.queued_requests', 'kestrel.queued_connections'] },
  { names: ['kafka.consumer_group.lag', 'kafka.consumer.records_lag_max'], of: QUEUE },
  { names: ['rabbitmq.message.current'], where: { attributes: ['state'], values: ['ready'] }, of: QUEUE },
  // Processes and hosts
  { names: ['process.cpu.utilization', 'process.runtime.jvm.cpu.utilization'], limit: 1 },
  { names: ['jvm.cpu.recent_utilization'], limit: 1 },
  { names: ['process.cpu.time'], reads: 'rate' },
  { names: ['process.memory.usage', 'process.memory.physical_usage'] },
  {
    names: ['process.unix.file_descriptor.count', 'process.open_file_descriptor.count', 'jvm.file_descriptor.count'],
    limit: ['jvm.file_descriptor.limit'],
  },
  { names: ['system.memory.utilization'], where: USED, limit: 1 },
  { names: ['system.filesystem.utilization'], where: USED, limit: 1, of: DISK },
];

/** Throws AppError('config') that names the setting. */
export function withOwnRules(own: readonly PressureSetting[], useDefaults: boolean): PressureRule[] {
  const rules = own.map(({ metric, reads, limit, of }, index): PressureRule => {
    if (limit === metric) {
      throw new AppError('config', `pressure.metrics.${index}: "${metric}" cannot be its own limit`);
    }
    return {
      names: [metric],
      ...(reads && { reads }),
      ...(limit !== undefined && { limit: typeof limit === 'string' ? [limit] : limit }),
      ...(of && { of: [of] }),
    };
  });
  // What the user says of a metric stands instead of what is built in.
  const said = new Set(rules.flatMap(({ names }) => names));
  const builtIn = useDefaults ? PRESSURE_RULES : [];
  const kept = builtIn
    .map((rule) => ({ ...rule, names: rule.names.filter((name) => !said.has(name)) }))
    .filter(({ names }) => names.length > 0);
  return [...rules, ...kept];
}
