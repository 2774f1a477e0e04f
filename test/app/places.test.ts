import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openPlaces, type Places } from '../../src/app/places.ts';
import { Counters } from '../../src/core/metrics.ts';
import { mmdb, uint } from '../fixtures/mmdb.ts';
import { makeRecord, toWrite } from '../fixtures/records.ts';

const CITIES = {
  '203.0.113.0/24': { country: { iso_code: 'NZ' }, city: { names: { en: 'Dunedin', de: 'Dunedin' } } },
  '198.51.100.0/25': { registered_country: { iso_code: 'CH' } },
  '2001:db8::/32': { country: { iso_code: 'IS' } },
};
const SYSTEMS = {
  '203.0.113.0/24': { autonomous_system_number: uint(64_500), autonomous_system_organization: 'Example Net' },
};

let folder: string;
let places: Places | undefined;
let counters: Counters;
let lines: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spantrail-places-'));
  counters = new Counters();
  lines = [];
});
afterEach(() => {
  places?.close();
  rmSync(folder, { recursive: true, force: true });
});

function file(name: string, content: Buffer): string {
  const path = join(folder, name);
  writeFileSync(`${path}.new`, content);
  renameSync(`${path}.new`, path);
  return path;
}

async function open(...databases: string[]): Promise<Places> {
  const log = {
    info: (_: object, line: string) => lines.push(line),
    warn: (_: object, line: string) => lines.push(line),
  };
  places = await openPlaces({ databases, reloadMs: 3_600_000, counters, log });
  return places;
}

function sourceOf(ip: string) {
  const record = makeRecord({ source: { ip, port: 9 } });
  const before = record.source;
  places?.annotate([toWrite(record)]);
  expect(before).toEqual({ ip, port: 9 });
  return record.source;
}

it('country, city and AS come from several databases, and what they do not know stays away', async () => {
  await open(file('city.mmdb', mmdb(CITIES)), file('as.mmdb', mmdb(SYSTEMS)));
  expect(sourceOf('203.0.113.9')).toEqual({
    ...{ ip: '203.0.113.9', port: 9 },
    geo: { country_iso_code: 'NZ', city_name: 'Dunedin' },
    as: { number: 64_500, organization: { name: 'Example Net' } },
  });
  expect(sourceOf('198.51.100.9')).toEqual({ ip: '198.51.100.9', port: 9, geo: { country_iso_code: 'CH' } });
  expect(sourceOf('198.51.100.200')).toEqual({ ip: '198.51.100.200', port: 9 });
  expect(sourceOf('2001:db8::7')).toMatchObject({ geo: { country_iso_code: 'IS' } });
  const nowhere = makeRecord();
  places?.annotate([toWrite(nowhere)]);
  expect(nowhere).not.toHaveProperty('source');
});

it('the flat form that some databases have is read, too', async () => {
  const flat = { '192.0.2.0/24': { country: 'DE', country_name: 'Germany', asn: 'AS64501', as_name: 'Beispiel' } };
  await open(file('flat.mmdb', mmdb(flat)));
  expect(sourceOf('192.0.2.1')).toMatchObject({
    geo: { country_iso_code: 'DE' },
    as: { number: 64_501, organization: { name: 'Beispiel' } },
  });
});

it('a database that is replaced is read again; one that cannot be read leaves what was known', async () => {
  const path = file('city.mmdb', mmdb(CITIES));
  await open(path);
  expect(sourceOf('203.0.113.9')).toMatchObject({ geo: { country_iso_code: 'NZ' } });
  file('city.mmdb', mmdb({ '203.0.113.0/24': { country: { iso_code: 'AU' } } }));
  await places?.reload();
  expect(sourceOf('203.0.113.9')?.geo).toEqual({ country_iso_code: 'AU' });

  file('city.mmdb', Buffer.from('half a fi'));
  await places?.reload();
  await places?.reload();
  rmSync(path);
  await places?.reload();
  expect(sourceOf('203.0.113.9')?.geo).toEqual({ country_iso_code: 'AU' });
  file('city.mmdb', mmdb(CITIES));
  await places?.reload();
  expect(sourceOf('203.0.113.9')?.geo?.country_iso_code).toBe('NZ');
  expect(lines).toHaveLength(4);
  expect(counters.total('place_databases_read', { outcome: 'success' })).toBe(2);
  expect(counters.total('place_databases_read', { outcome: 'failure' })).toBe(2);
});

it('a database that is damaged inside costs nothing but its answers', async () => {
  const whole = mmdb(CITIES);
  const damaged = Buffer.from(whole);
  const metadataAt = whole.lastIndexOf('MaxMind.com') - 3;
  damaged.fill(0xff, metadataAt - 100, metadataAt);
  await open(file('city.mmdb', damaged));
  expect(() => sourceOf('203.0.113.9')).not.toThrow();
  expect(() => sourceOf('2001:db8::7')).not.toThrow();
  expect(counters.total('place_lookups_failed')).toBeGreaterThan(0);
});

it('a file that is none is refused at the start, by its name', async () => {
  await expect(open(join(folder, 'absent.mmdb'))).rejects.toThrow(/origin\.databases: .*absent\.mmdb is no mmdb file/);
  await expect(open(file('text.mmdb', Buffer.from('hello')))).rejects.toThrow(/text\.mmdb is no mmdb file/);
});
