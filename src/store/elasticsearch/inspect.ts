import { AppError, describeError } from '../../core/errors.ts';
import type { Finding } from '../care.ts';
import { type Connection, type ElasticsearchSettings, isForbidden } from './connection.ts';
import { indexPattern, readIndexSettings } from './indices.ts';
import { keyOf, outdatedIndices, readTemplates } from './set-up.ts';
import {
  COMPONENT,
  CUSTOM_COMPONENT,
  type InstalledTemplate,
  TEMPLATE_PRIORITY,
  templateDifferences,
  templateState,
  type WantedTemplate,
  wantedAlias,
  wantedTemplates,
} from './templates.ts';
import { unsupportedServers } from './versions.ts';

/** Of many of a kind, so many are named in a line. */
const NAMED_MAX = 3;

const HOW_TO_SET_UP = 'run "spantrail setup" as an administrator';

/** Looks for what is wrong with cluster, templates, indices and rights; changes nothing. */
export async function inspectCluster(connection: Connection, settings: ElasticsearchSettings): Promise<Finding[]> {
  const looks: [string, () => Promise<Finding[]>][] = [
    ['the version of the servers', () => lookAtServers(connection)],
    ['the templates', () => lookAtTemplates(connection, settings)],
    ['the indices', () => lookAtIndices(connection)],
    ['the rights of this user', () => lookAtRights(connection, settings)],
  ];
  const findings: Finding[] = [];
  const unseen: string[] = [];
  let reason = '';
  for (const [what, look] of looks) {
    try {
      findings.push(...(await look()));
    } catch (error) {
      // A server that is away is nobody's finding; one that refuses to tell is.
      if (error instanceof AppError && error.retryable && !isForbidden(error)) throw error;
      unseen.push(what);
      reason = describeError(error);
    }
  }
  if (unseen.length > 0) {
    const text = `nothing is known of ${unseen.join(', ')}: ${reason}`;
    findings.push({ kind: 'not_inspected', state: 'note', text });
  }
  return findings;
}

async function lookAtServers(connection: Connection): Promise<Finding[]> {
  const lines = await unsupportedServers(connection);
  return lines.map((text) => ({ kind: 'unsupported_server', state: 'bad', text }));
}

async function lookAtTemplates(connection: Connection, settings: ElasticsearchSettings): Promise<Finding[]> {
  const installed = await readTemplates(connection);
  const findings = wantedTemplates(settings).flatMap((one) => judge(one, installed.get(keyOf(one))));
  for (const [key, template] of installed) {
    const namespace = /^index spantrail-audit-(.+)$/.exec(key)?.[1];
    if (namespace !== undefined) findings.push(...judge(wantedAlias(namespace), template));
  }
  return [...findings, ...(await lookForRivals(connection, installed))];
}

function judge(one: WantedTemplate, installed: InstalledTemplate | undefined): Finding[] {
  const name = `${one.kind} template ${one.name}`;
  const state = templateState(one, installed);
  if (installed === undefined) {
    return [{ kind: 'template_missing', state: 'bad', text: `${name} is not installed; ${HOW_TO_SET_UP}` }];
  }
  if (state === 'changed') {
    const differences = templateDifferences(one, installed, NAMED_MAX).join(', ');
    const text = `${name} was changed by hand and is left as it is: ${differences}. Put changes into the component template ${CUSTOM_COMPONENT} and run "spantrail setup --overwrite"`;
    return [{ kind: 'template_changed', state: 'bad', text }];
  }
  if (state === 'newer') {
    const text = `${name} is of a newer Spantrail and is left as it is`;
    return [{ kind: 'template_outdated', state: 'note', text }];
  }
  if (state === 'outdated') {
    const text = `${name} is of an older Spantrail or of other settings, so that new indices lack what has changed; ${HOW_TO_SET_UP}`;
    return [{ kind: 'template_outdated', state: 'bad', text }];
  }
  return [];
}

interface TemplateList {
  readonly index_templates?: readonly {
    readonly name: string;
    readonly index_template: { readonly index_patterns?: string | readonly string[]; readonly priority?: number };
  }[];
}

/** Templates of others that win over ours for our indices: records land in indices without our mapping. */
async function lookForRivals(connection: Connection, ours: ReadonlyMap<string, InstalledTemplate>): Promise<Finding[]> {
  const fields = ['name', 'index_template.index_patterns', 'index_template.priority'];
  const path = `/_index_template?filter_path=${fields.map((field) => `index_templates.${field}`).join(',')}`;
  const answer = await connection.request((client) => client.transport.request<TemplateList>({ method: 'GET', path }));
  return (answer.index_templates ?? []).flatMap(({ name, index_template: { index_patterns = [], priority = 0 } }) => {
    const isOurs = ours.get(keyOf({ kind: 'index', name }))?.['composed_of'];
    if (Array.isArray(isOurs) && isOurs.includes(COMPONENT)) return [];
    const fitting = [index_patterns].flat().find(fitsOurIndices);
    if (fitting === undefined || priority < TEMPLATE_PRIORITY) return [];
    const text = `index template ${name} (${fitting}, priority ${priority}) stands before Spantrail's: new indices have its mapping. Take spantrail-* out of its pattern, or lower its priority below ${TEMPLATE_PRIORITY}`;
    return [{ kind: 'template_changed', state: 'bad', text }] satisfies Finding[];
  });
}

const EXAMPLES = ['spantrail-audit-default-2026.11.22', 'spantrail-revisions-default-2026.11.22'];

/** Also patterns for some namespaces or months only: whatever begins as ours do. */
function fitsOurIndices(pattern: string): boolean {
  if (/^spantrail-(audit|revisions)-/.test(pattern)) return true;
  const expression = new RegExp(`^${pattern.split('*').map(literal).join('.*')}$`);
  return EXAMPLES.some((example) => expression.test(example));
}

function literal(text: string): string {
  return text.replace(/[.+?^${}()|[\]\\]/g, '\\$&');
}

async function lookAtIndices(connection: Connection): Promise<Finding[]> {
  const findings: Finding[] = [];
  const blocked = new Map<string, string[]>();
  for (const [index, settings] of await readIndexSettings(connection, 'blocks')) {
    for (const [name, value] of Object.entries(settings)) {
      if (String(value) !== 'true' || name === 'read') continue;
      blocked.set(name, [...(blocked.get(name) ?? []), index]);
    }
  }
  for (const [name, indices] of blocked) {
    const why =
      name === 'read_only_allow_delete'
        ? 'the server does that when its disk is full (cluster.routing.allocation.disk.watermark.flood_stage) and takes it back when there is room'
        : 'somebody has set that; what is to be written there waits in the write-ahead log until it is taken back';
    findings.push({
      kind: 'read_only_index',
      state: 'bad',
      text: `${list(indices)}: index.blocks.${name} is on; ${why}`,
    });
  }
  const outdated = await outdatedIndices(connection);
  if (outdated.length > 0) {
    const text = `${list(outdated)}: fields that are new cannot be searched there; ${HOW_TO_SET_UP}`;
    findings.push({ kind: 'mapping_outdated', state: 'note', text });
  }
  return findings;
}

function list(names: readonly string[]): string {
  const more = names.length - NAMED_MAX;
  return `${names.slice(0, NAMED_MAX).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

interface PrivilegesAnswer {
  readonly username?: string;
  readonly cluster?: Readonly<Record<string, boolean>>;
  readonly index?: Readonly<Record<string, Readonly<Record<string, boolean>>>>;
}

/** What a running Spantrail needs: deploy/elasticsearch/writer.json, and retention.json where that is set. */
function neededPrivileges(settings: ElasticsearchSettings) {
  const retention = settings.retentionMs === undefined ? [] : ['delete_index'];
  const all = ['read', 'auto_configure', 'maintenance', 'view_index_metadata'];
  const [any, create] = ['indices:data/write/index:op_type/index', 'indices:data/write/index:op_type/create'];
  return {
    cluster: ['monitor'],
    index: [
      { names: [indexPattern('audit')], privileges: [any, 'delete', ...all, ...retention] },
      { names: [indexPattern('revisions')], privileges: [create, ...all, ...retention] },
      { names: ['spantrail-alerts-*'], privileges: [any, ...all] },
    ],
  };
}

async function lookAtRights(connection: Connection, settings: ElasticsearchSettings): Promise<Finding[]> {
  const parameters = { method: 'POST', path: '/_security/user/_has_privileges', body: neededPrivileges(settings) };
  let answer: PrivilegesAnswer;
  try {
    answer = await connection.request((client) => client.transport.request<PrivilegesAnswer>(parameters));
  } catch (error) {
    if (error instanceof AppError && error.retryable) throw error;
    const text = 'security of the cluster is off: whoever reaches it can read and change records';
    return [{ kind: 'unprotected', state: 'note', text }];
  }
  const missing = [
    { on: 'the cluster', has: answer.cluster ?? {} },
    ...Object.entries(answer.index ?? {}).map(([on, has]) => ({ on, has })),
  ].flatMap(({ on, has }) => {
    const names = Object.keys(has).filter((name) => !has[name]);
    return names.length === 0 ? [] : [`${names.join(', ')} on ${on}`];
  });
  if (missing.length === 0) return [];
  const text = `user ${answer.username ?? ''} lacks privileges of a running Spantrail (deploy/elasticsearch): ${missing.join('; ')}`;
  return [{ kind: 'missing_privilege', state: 'bad', text }];
}
