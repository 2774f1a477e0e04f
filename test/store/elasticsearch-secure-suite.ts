import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '@elastic/elasticsearch';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startStoreCare } from '../../src/app/store-care.ts';
import { systemClock } from '../../src/core/clock.ts';
import { Counters } from '../../src/core/metrics.ts';
import type { ElasticsearchSettings } from '../../src/store/elasticsearch/connection.ts';
import { openElasticsearchStore } from '../../src/store/elasticsearch/store.ts';
import type { Store } from '../../src/store/port.ts';
import { ELASTICSEARCH_VERSIONS, type ElasticsearchVersion } from '../setup/elasticsearch.ts';
import type { SecureElasticsearch, SecureUser } from '../setup/elasticsearch-secure.ts';
import type { Skipped } from '../setup/require.ts';
import { hourly, SETTINGS } from './elasticsearch-records.ts';
import { AUDIT, CALLS, REVISIONS, statusOf } from './elasticsearch-roles.ts';
import { describeServe } from './elasticsearch-secure-serve.ts';

const DAY_MS = 86_400_000;

const USERS: readonly SecureUser[] = ['writer', 'sweeper', 'reader', 'administrator', 'bystander'];

type Open = (user: SecureUser, change?: Partial<ElasticsearchSettings>) => Promise<Store>;

export interface House {
  readonly server: SecureElasticsearch;
  readonly open: Open;
  /** Behind the store's back, with every right. */
  readonly owner: () => Client;
  readonly client: (user: SecureUser) => Client;
}

/** Roles, credentials, TLS, templates and retention against a server of one version with security on. */
export function describeSecured(version: ElasticsearchVersion, given: SecureElasticsearch | Skipped): void {
  describe.skipIf('skipped' in given)(`Elasticsearch ${version} with security`, () => {
    const server = 'url' in given ? given : { url: '', caFile: '', otherCaFile: '', passwords: {} as never };
    const stores: Store[] = [];
    const clients = new Map<SecureUser, Client>();
    const open: Open = async (username, change = {}) => {
      const own = { urls: [server.url], caFile: server.caFile, username, password: server.passwords[username] };
      const store = await openElasticsearchStore({ ...SETTINGS, ...own, ...change });
      stores.push(store);
      return store;
    };
    const client = (username: SecureUser) => {
      const auth = { username, password: server.passwords[username] };
      // That its certificate is checked is for the tests of TLS.
      const made = clients.get(username) ?? new Client({ node: server.url, auth, tls: { rejectUnauthorized: false } });
      clients.set(username, made);
      return made;
    };
    const house: House = { server, open, client, owner: () => client('owner') };
    beforeAll(async () => {
      const store = await open('administrator');
      await store.setUp({ namespace: 'rights' });
    });
    afterAll(async () => {
      for (const { close } of [...stores, ...clients.values()]) await close.call(undefined).catch(() => undefined);
    });
    describeRights(house);
    describeTemplates(house);
    // Nothing in these depends on the server's version.
    if (version === ELASTICSEARCH_VERSIONS[0]) {
      describeServe(version, house);
      describeDoors(house);
      describeRetention(house);
    }
  });
}

function describeRights({ open, owner, client }: House): void {
  describe('rights', () => {
    beforeAll(async () => {
      const writer = await open('writer');
      await writer.write(hourly('rights', 4, 1n));
      await writer.write(hourly('rights', 4, 2n));
      for (const index of [AUDIT, REVISIONS]) {
        await owner().index({ index, id: 'kept', document: { '@timestamp': '2026-11-22T10:00:00Z' } });
      }
      await owner().index({ index: 'orders', id: '1', document: { total: 7 } });
    });

    const cases = CALLS.flatMap((call) =>
      USERS.map((user) => ({ user, call, what: call.what, may: call.may.includes(user) })),
    );
    it.each(cases)('$user: $what → $may', async ({ user, call, may }) => {
      const status = await statusOf(client(user), call);
      if (may) expect(status).toSatisfy((code: number) => code < 500 && code !== 401 && code !== 403);
      else expect(status).toBe(403);
    });

    it('has tried to do harm as nobody else may', async () => {
      expect((await owner().get({ index: REVISIONS, id: 'kept' }))._source).not.toHaveProperty('event');
      expect((await owner().count({ index: 'orders' })).count).toBe(1);
    });

    it('names the privileges that a user lacks for a running Spantrail', async () => {
      const lines = async (user: SecureUser, change = {}) => {
        const findings = (await (await open(user, change)).care?.inspect()) ?? [];
        return findings.filter(({ kind }) => kind === 'missing_privilege').map(({ text }) => text);
      };
      expect(await lines('writer')).toEqual([]);
      expect(await lines('sweeper', { retentionMs: DAY_MS })).toEqual([]);
      expect(await lines('writer', { retentionMs: DAY_MS })).toEqual([
        expect.stringMatching(
          /^user writer lacks .*: delete_index on spantrail-audit-\*; delete_index on spantrail-rev/,
        ),
      ]);
      expect(await lines('reader')).toEqual([
        expect.stringMatching(
          /monitor on the cluster; .*auto_configure, delete, indices:data\/write\/index:op_type\/index, maintenance on spantrail-audit/,
        ),
      ]);
    });
  });
}

function describeDoors({ server, open, owner }: House): void {
  describe('doors', () => {
    const port = () => new URL(server.url).port;
    /** As Elastic Cloud makes them: host, then the name in front of it. Put together it is this server's address. */
    const cloudId = (name: string) => `field:${Buffer.from(`0.0.1:${port()}$${name}$kibana`).toString('base64')}`;

    it.each([
      { why: 'with user, password and authority', change: () => ({}) },
      { why: 'with a cloud id', change: () => ({ urls: [], cloudId: cloudId('127') }) },
      { why: 'past a node that is away', change: () => ({ urls: [deadUrl, server.url] }) },
    ])('lets in $why', async ({ change }) => {
      const store = await open('writer', change());
      // More often than there are nodes, so that each is asked first at least once.
      for (let round = 0; round < 4; round++) await store.setUp();
      expect(await store.write(hourly('doors', 6, 1n))).toMatchObject({ written: 6 });
    });

    it.each([
      {
        why: 'the authority is another',
        change: () => ({ caFile: server.otherCaFile }),
        words: /nobody known vouches for; store.elasticsearch.caFile/,
      },
      { why: 'no authority is named', change: () => ({ caFile: undefined }), words: /nobody known vouches for/ },
      {
        why: 'the certificate is for another name',
        change: () => ({ urls: [server.url.replace('127.0.0.1', 'localhost')] }),
        words: /certificate for another name/,
      },
      {
        why: 'the address is without TLS',
        change: () => ({ urls: [server.url.replace('https', 'http')] }),
        words: /address begins with https/,
      },
      { why: 'the password is wrong', change: () => ({ password: 'guessed' }), words: /refuses our credentials/ },
      { why: 'the user is unknown', change: () => ({ username: 'mallory' }), words: /refuses our credentials/ },
      { why: 'nobody says who it is', change: () => ({ username: undefined }), words: /refuses our credentials/ },
      {
        why: 'the API key is unknown',
        change: () => ({ username: undefined, apiKey: Buffer.from('an id:a key').toString('base64') }),
        words: /refuses our credentials/,
      },
      {
        why: 'the user has no rights',
        change: () => ({ username: 'bystander', password: server.passwords.bystander }),
        words: /does not let this user do that/,
      },
    ])('waits and says why when $why', async ({ change, words }) => {
      const store = await open('writer', change());
      const failure: unknown = await store.setUp().catch((error: unknown) => error);
      expect(failure).toMatchObject({ code: 'store_unavailable', message: expect.stringMatching(words) });
      await expect(store.write(hourly('doors', 1, 1n))).rejects.toMatchObject({ code: 'store_unavailable' });
      expect((failure as Error).message).not.toContain('guessed');
    });

    it.each([
      { why: 'is not there', make: () => join(folder, 'nothing.pem'), words: /cannot be read/ },
      { why: 'is something else', make: () => writeText('notes.pem', 'no certificate'), words: /holds no certificate/ },
    ])('does not open when the file of the authority $why', async ({ make, words }) => {
      await expect(open('writer', { caFile: make() })).rejects.toMatchObject({
        code: 'config',
        message: expect.stringMatching(words),
      });
    });

    it('sets up as an administrator what a writer then only uses, and says so where nothing is set up', async () => {
      await owner().indices.deleteIndexTemplate({ name: 'spantrail-audit' });
      const writer = await open('writer');
      await expect(writer.setUp()).rejects.toThrow(/run "spantrail setup" as a user with the role/);
      expect(await writer.care?.inspect()).toMatchObject([{ kind: 'template_missing', state: 'bad' }]);
      await (await open('administrator')).setUp();
      await writer.setUp();
      expect(await writer.care?.inspect()).toEqual([]);
    });

    let folder: string;
    let deadUrl: string;
    const writeText = (name: string, text: string) => {
      writeFileSync(join(folder, name), text);
      return join(folder, name);
    };
    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), 'spantrail-doors-'));
      const closed = createServer();
      await new Promise<void>((done) => closed.listen(0, '127.0.0.1', done));
      const address = closed.address();
      deadUrl = `https://127.0.0.1:${typeof address === 'object' && address ? address.port : 1}`;
      await new Promise((done) => closed.close(done));
    });
    afterAll(() => rmSync(folder, { recursive: true, force: true }));
  });
}

function describeTemplates({ open, owner }: House): void {
  describe('templates', () => {
    const component = async () =>
      (await owner().cluster.getComponentTemplate({ name: 'spantrail' })).component_templates[0]?.component_template;
    const findings = async (user: SecureUser = 'writer') => (await (await open(user)).care?.inspect()) ?? [];
    const restore = async () => (await open('administrator')).setUp({ overwrite: true });

    it('carry their reasons and their version', async () => {
      const { version, _meta } = (await component()) ?? {};
      expect(version).toBe(1);
      const reasons = _meta?.['reasons'] as Record<string, string>;
      const settings = ['index.mode', 'index.mapping.source.mode', 'index.translog.durability', 'index.gc_deletes'];
      expect(Object.keys(reasons)).toEqual(expect.arrayContaining(settings));
    });

    it('that somebody changed by hand are left, told with what differs, and put right on demand', async () => {
      const before = await component();
      const changed = {
        ...before?.template,
        settings: { index: { ...before?.template.settings?.['index'], number_of_replicas: 2 } },
      };
      const { template: _, ...rest } = before ?? {};
      const { created_date_millis: __, modified_date_millis: ___, ...body } = rest as Record<string, unknown>;
      await owner().cluster.putComponentTemplate({ name: 'spantrail', ...body, template: changed });
      const store = await open('administrator', { replicas: 1 });
      await store.setUp();
      expect((await component())?.template.settings?.['index']?.number_of_replicas).toBe('2');
      const text =
        /component template spantrail was changed by hand .*index.number_of_replicas is 2 \(0\)\. .*--overwrite/;
      expect(await findings()).toMatchObject([
        { kind: 'template_changed', state: 'bad', text: expect.stringMatching(text) },
      ]);
      await restore();
      expect((await component())?.template).toEqual(before?.template);
      expect(await findings()).toEqual([]);
    });

    it('that somebody else wrote under our name are left, too', async () => {
      await owner().indices.putIndexTemplate({
        name: 'spantrail-revisions',
        index_patterns: ['spantrail-revisions-*'],
      });
      await (await open('administrator')).setUp();
      expect(await findings()).toMatchObject([
        { kind: 'template_changed', text: expect.stringContaining('spantrail-revisions was changed') },
      ]);
      await restore();
      expect(await findings()).toEqual([]);
    });

    it('of others that win over ours are told', async () => {
      await owner().indices.putIndexTemplate({ name: 'others', index_patterns: ['span*'], priority: 500 });
      expect(await findings()).toMatchObject([
        { kind: 'template_changed', text: expect.stringMatching(/others \(span\*, priority 500\) stands before/) },
      ]);
      await owner().indices.deleteIndexTemplate({ name: 'others' });
      expect(await findings()).toEqual([]);
    });

    it('have a place for an administrator’s own, which is laid over ours and touched by nobody', async () => {
      const own = { template: { settings: { index: { number_of_shards: 3 } } } };
      await owner().cluster.putComponentTemplate({ name: 'spantrail@custom', ...own });
      await (await open('writer')).write(hourly('custom', 2, 1n));
      const settings = await owner().indices.getSettings({ index: 'spantrail-audit-custom-*' });
      for (const { settings: { index } = {} } of Object.values(settings)) {
        expect(index).toMatchObject({ number_of_shards: '3', mode: 'logsdb' });
      }
      expect(await findings()).toEqual([]);
      await restore();
      expect(
        (await owner().cluster.getComponentTemplate({ name: 'spantrail@custom' })).component_templates,
      ).toHaveLength(1);
    });

    it('are upgraded while records are written; existing indices get new fields, but for one that takes no change', async () => {
      // As an older Spantrail left them: fewer fields, and nothing that tells who changed it.
      const old = {
        mappings: { dynamic: false as const, properties: { '@timestamp': { type: 'date_nanos' as const } } },
      };
      const _meta = { managed_by: 'spantrail', schema_version: 0, digest: '0123456789abcdef' };
      const template = { ...old, settings: { index: { mode: 'logsdb' as const } } };
      await owner().cluster.putComponentTemplate({ name: 'spantrail', template, version: 0, _meta });
      const writer = await open('writer');
      await writer.setUp();
      await writer.write(hourly('upgraded', 50, 1n));
      const indices = ['2026.11.21', '2026.11.22', '2026.11.23', '2026.11.24'].map(
        (day) => `spantrail-audit-upgraded-${day}`,
      );
      expect(await findings()).toEqual(
        expect.arrayContaining([
          expect.objectContaining({
            kind: 'template_outdated',
            text: expect.stringContaining('component template spantrail is of an older'),
          }),
          expect.objectContaining({ kind: 'mapping_outdated' }),
        ]),
      );
      const block = (isOn: boolean) =>
        owner().indices.putSettings({ index: indices[0] ?? '', settings: { 'index.blocks.read_only': isOn || null } });
      await block(true);
      let isUpgraded = false;
      const upgrade = (await open('administrator')).setUp().then(() => {
        isUpgraded = true;
      });
      let rank = 2n;
      // But for the first, which is in the index that takes no change.
      const fresh = () => hourly('upgraded', 50, rank++).slice(1);
      while (!isUpgraded) expect(await writer.write(fresh())).toMatchObject({ written: 49, rejected: [] });
      await upgrade;
      const after = await findings();
      expect(after.map(({ kind }) => kind).sort()).toEqual(['mapping_outdated', 'read_only_index']);
      expect(after.map(({ text }) => text).join('\n')).toMatch(
        /spantrail-audit-upgraded-2026.11.21: index.blocks.read_only is on/,
      );
      const mapped = await owner().indices.getMapping({ index: 'spantrail-audit-upgraded-*' });
      const withActor = Object.entries(mapped).filter(
        ([, { mappings }]) => mappings.properties?.['user'] !== undefined,
      );
      expect(withActor.map(([index]) => index).sort()).toEqual(indices.slice(1));
      await block(false);
      await (await open('administrator')).setUp();
      expect(await findings()).toEqual([]);
      await writer.refresh();
      expect((await owner().count({ index: 'spantrail-audit-upgraded-*' })).count).toBe(50);
    });
  });
}

function describeRetention({ open, owner }: House): void {
  describe('retention', () => {
    const keepDays = 30;
    const nowMs = systemClock.nowMs();
    const day = (age: number) => new Date(nowMs - age * DAY_MS).toISOString();
    const indexOf = (age: number, kind = 'audit') =>
      `spantrail-${kind}-aged-${day(age).slice(0, 10).replaceAll('-', '.')}`;
    const put = (index: string, age: number) =>
      owner().index({ index, refresh: true, document: { '@timestamp': day(age), event: { id: `${age}` } } });
    const remaining = async () => Object.keys(await owner().indices.get({ index: 'spantrail-*-aged-*' })).sort();

    it('deletes whole indices of old records, and no younger one, by anybody’s clock', async () => {
      const monthAgo = new Date(nowMs - 70 * DAY_MS).toISOString().slice(0, 7).replace('-', '.');
      const olds = [indexOf(40), indexOf(90), indexOf(32, 'revisions')];
      for (const [at, index] of olds.entries()) await put(index, [40, 90, 32][at] ?? 0);
      await put(`spantrail-audit-aged-${monthAgo}`, 70);
      // Too young, right at the limit, with a name that lies, and with one that is not ours.
      const stays = [indexOf(0), indexOf(29), indexOf(30), indexOf(365), 'spantrail-audit-aged-own'];
      for (const [at, index] of stays.entries()) await put(index, [0, 29, 29.9, 1, 400][at] ?? 0);
      const retentionMs = keepDays * DAY_MS;

      const writer = await open('writer', { retentionMs });
      const refused = await writer.care?.retire?.(nowMs);
      expect(refused?.deleted).toEqual([]);
      expect(refused?.kept).toContainEqual({
        index: olds[0],
        reason: expect.stringMatching(/does not let this user.*retention.json/),
      });

      const sweeper = await open('sweeper', { retentionMs });
      const liar = { index: indexOf(365), reason: expect.stringContaining('1 of its records are younger') };
      // A clock of ours that is years ahead deletes nothing that the server's does not, too.
      expect(await sweeper.care?.retire?.(Date.parse('2020-01-01'))).toEqual({ deleted: [], kept: [] });

      const counters = new Counters();
      const lines: string[] = [];
      const log = {
        info: (_: object, text: string) => lines.push(text),
        warn: (_: object, text: string) => lines.push(text),
      };
      if (!sweeper.care) throw new Error('a cluster is looked after');
      const care = startStoreCare({
        care: sweeper.care,
        clock: systemClock,
        counters,
        log,
        inspectMs: 200,
        retireMs: 200,
      });
      await expect.poll(() => counters.total('indices_retired'), { timeout: 30_000 }).toBe(4);
      await expect.poll(() => counters.total('store_findings', { kind: 'retention' }), { timeout: 30_000 }).toBe(1);
      care.stop();
      expect(counters.total('documents_retired')).toBe(4);
      expect(await remaining()).toEqual([...stays].sort());
      expect(lines.filter((line) => line.includes('is deleted'))).toHaveLength(4);

      const early = await sweeper.care?.retire?.(nowMs + 400 * DAY_MS);
      expect(early?.deleted).toEqual([]);
      expect(early?.kept).toContainEqual(liar);
      expect(await remaining()).toEqual([...stays].sort());
    });

    it('is off by default', async () => {
      expect((await open('writer')).care?.retire).toBeUndefined();
    });
  });
}
