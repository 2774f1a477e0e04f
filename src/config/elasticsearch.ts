import { z } from 'zod';
import { duration, durationMs } from './values.ts';

const DAY_MS = 86_400_000;

/** What a cloud id holds after its name: `host[:port]$id of Elasticsearch[$id of Kibana]`, in base64. */
function isCloudId(text: string): boolean {
  const [host = '', id = ''] = Buffer.from(text.slice(text.lastIndexOf(':') + 1), 'base64')
    .toString('utf8')
    .split('$');
  return text.includes(':') && URL.canParse(`https://${id}.${host}`) && id !== '';
}

/** Where records are kept in production, and for how long: docs/elasticsearch.md. */
export const elasticsearch = z
  .strictObject({
    urls: z
      .array(z.url({ protocol: /^https?$/, error: 'must be an address like http://127.0.0.1:9200' }))
      .min(1)
      .default(['http://127.0.0.1:9200'])
      .describe('Nodes of the cluster (servers 8.19 and 9). Requests go to all in turn, and past one that is away.'),
    cloudId: z
      .string()
      .refine(isCloudId, 'must be a cloud id as Elastic Cloud shows it: name:base64')
      .optional()
      .describe('Instead of `urls`: the cloud id of a deployment on Elastic Cloud.'),
    username: z.string().min(1).optional().describe('User, with `password`.'),
    password: z.string().optional().describe('Password; better given as ${env:NAME}.'),
    apiKey: z
      .string()
      .min(1)
      .optional()
      .describe('API key (the encoded one) instead of user and password; better given as ${env:NAME}.'),
    caFile: z.string().optional().describe('PEM file of the authority that signed the servers’ certificates.'),
    indexPeriod: z
      .enum(['day', 'week', 'month'])
      .default('day')
      .describe('Time span of one index, in UTC. May be changed: what is there stays and is found.'),
    retentionMs: duration
      .refine((age) => age >= DAY_MS, 'must be at least 1d')
      .optional()
      .describe(
        'Whole indices of all namespaces are deleted when every record in them is older. Not set: nothing is ever deleted.',
      ),
    replicas: z.int().min(0).default(0).describe('Copies of each shard; 1 or more on clusters with several nodes.'),
    refreshIntervalMs: durationMs('1s').describe('How soon written records can be found.'),
    requestTimeoutMs: durationMs('60s').describe(
      'A request without an answer for this long has failed; what it was to write is written again.',
    ),
  })
  .refine(({ apiKey, username }) => apiKey === undefined || username === undefined, {
    path: ['apiKey'],
    message: 'must not be given beside username and password: one of them names the user',
  })
  .refine(({ username, password }) => (username === undefined) === (password === undefined), {
    path: ['password'],
    message: 'must be given together with username',
  })
  .prefault({});
