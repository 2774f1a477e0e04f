import type { estypes } from '@elastic/elasticsearch';
import { AppError } from '../../core/errors.ts';
import { SCHEMA_VERSION } from '../../core/record.ts';
import { type Connection, type ElasticsearchSettings, isForbidden } from './connection.ts';
import { ALL_INDICES } from './indices.ts';
import {
  COMPONENT,
  FIELDS_DIGEST,
  fieldProperties,
  type InstalledTemplate,
  type TemplateState,
  templateState,
  type WantedTemplate,
  wantedAlias,
  wantedTemplates,
} from './templates.ts';
import { unsupportedServers } from './versions.ts';

/** Indices named in one request: the server takes 4 KB of address. */
const INDICES_A_REQUEST = 40;

/**
 * Installs or upgrades the templates, and gives existing indices the fields that are new; nothing has to stand still for it. May
 * run on every start. What a newer Spantrail installed is left alone, and so is what somebody changed by hand, unless it is
 * to be overwritten. A user who may not change templates does without as long as there are any.
 */
export async function setUpIndices(
  connection: Connection,
  settings: ElasticsearchSettings,
  { overwrite = false, namespace }: { overwrite?: boolean; namespace?: string | undefined } = {},
): Promise<void> {
  const [tooOld] = await unsupportedServers(connection);
  if (tooOld !== undefined) throw new AppError('store_unavailable', tooOld);
  const templates = wantedTemplates(settings);
  const installed = await readTemplates(connection);
  const stateOf = (one: WantedTemplate) => templateState(one, installed.get(keyOf(one)));
  const states = templates.map(stateOf);
  if (states.includes('newer')) return;
  const isDue = (state: TemplateState) =>
    state === 'missing' || state === 'outdated' || (overwrite && state === 'changed');
  const due = templates.filter((_, at) => isDue(states[at] ?? 'missing'));
  try {
    await writeTemplates(connection, due);
  } catch (error) {
    if (!isForbidden(error) || states.includes('missing')) throw explained(error);
  }
  await extendMappings(connection);
  if (namespace !== undefined) await setUpAlias(connection, namespace, overwrite);
}

/** A convenience for people: reads here go by index name, so a user who may write but not change templates does without. */
export async function setUpAlias(connection: Connection, namespace: string, overwrite = false): Promise<void> {
  const alias = wantedAlias(namespace);
  try {
    const state = templateState(alias, await readIndexTemplate(connection, alias.name));
    if (state === 'missing' || state === 'outdated' || (overwrite && state === 'changed')) {
      await writeTemplate(connection, alias, alias.meta);
    }
  } catch (error) {
    // Refused for its rights or by an odd server; what a wait mends is for the writer to wait for.
    if (error instanceof AppError && error.code === 'store_unavailable' && !isForbidden(error)) throw error;
  }
}

export function keyOf({ kind, name }: Pick<WantedTemplate, 'kind' | 'name'>): string {
  return `${kind} ${name}`;
}

/** The component template and the index templates of ours that are there, by `keyOf`. */
export async function readTemplates(connection: Connection): Promise<Map<string, InstalledTemplate>> {
  const found = new Map<string, InstalledTemplate>();
  const components = await connection.request((client) =>
    client.cluster.getComponentTemplate({ name: COMPONENT }, { ignore: [404] }),
  );
  for (const { name, component_template } of components.component_templates ?? []) {
    found.set(keyOf({ kind: 'component', name }), component_template as unknown as InstalledTemplate);
  }
  const indices = await connection.request((client) =>
    client.indices.getIndexTemplate({ name: 'spantrail-*' }, { ignore: [404] }),
  );
  for (const { name, index_template } of indices.index_templates ?? []) {
    found.set(keyOf({ kind: 'index', name }), index_template as unknown as InstalledTemplate);
  }
  return found;
}

async function readIndexTemplate(connection: Connection, name: string): Promise<InstalledTemplate | undefined> {
  const answer = await connection.request((client) => client.indices.getIndexTemplate({ name }, { ignore: [404] }));
  return answer.index_templates?.[0]?.index_template as unknown as InstalledTemplate | undefined;
}

/** The digest vouches for all of them, so the component template that carries it is complete only after the others. */
async function writeTemplates(connection: Connection, due: readonly WantedTemplate[]): Promise<void> {
  const component = due.find(({ kind }) => kind === 'component');
  if (component) await writeTemplate(connection, component, { ...component.meta, digest: '' });
  for (const one of due) if (one.kind === 'index') await writeTemplate(connection, one, one.meta);
  if (component) await writeTemplate(connection, component, component.meta);
}

async function writeTemplate(connection: Connection, { kind, name, content }: WantedTemplate, _meta: object) {
  const body = { ...content, version: SCHEMA_VERSION, _meta };
  await connection.request((client) =>
    kind === 'component'
      ? client.cluster.putComponentTemplate({ name, ...body } as unknown as estypes.ClusterPutComponentTemplateRequest)
      : client.indices.putIndexTemplate({ name, ...body } as estypes.IndicesPutIndexTemplateRequest),
  );
}

/** Indices whose mapping is not of this catalogue of fields. */
export async function outdatedIndices(connection: Connection): Promise<string[]> {
  const answer = await connection.request((client) =>
    client.indices.getMapping({
      index: [...ALL_INDICES],
      ignore_unavailable: true,
      filter_path: '*.mappings._meta,*.mappings.dynamic',
    }),
  );
  return Object.entries(answer)
    .filter(([, { mappings }]) => mappings._meta?.['spantrail_fields'] !== FIELDS_DIGEST)
    .map(([index]) => index);
}

/** An index that cannot take a field, or no change at all, keeps what it has: its records stay readable. */
async function extendMappings(connection: Connection): Promise<void> {
  // Some servers refuse `@timestamp` here, as logsdb brings it; it never changes.
  const { '@timestamp': _, ...properties } = fieldProperties();
  const extend = (index: string[]) =>
    connection.request((client) =>
      client.indices.putMapping({ index, properties, _meta: { spantrail_fields: FIELDS_DIGEST } }),
    );
  const refused = (error: unknown) => {
    if (!(isForbidden(error) || (error instanceof AppError && error.code === 'bad_request'))) throw error;
    return false;
  };
  const indices = await outdatedIndices(connection).catch((error: unknown) => {
    refused(error);
    return [];
  });
  for (let at = 0; at < indices.length; at += INDICES_A_REQUEST) {
    const part = indices.slice(at, at + INDICES_A_REQUEST);
    // One that refuses makes the whole request fail: then each has a request of its own.
    if (await extend(part).catch(refused)) continue;
    for (const index of part) await extend([index]).catch(refused);
  }
}

function explained(error: unknown): unknown {
  if (!isForbidden(error)) return error;
  const words =
    'the templates are not installed, and this user may not install them: run "spantrail setup" as a user with';
  const text = `${words} the role of deploy/elasticsearch/administrator.json (${(error as Error).message})`;
  return new AppError('store_unavailable', text, { cause: error });
}
