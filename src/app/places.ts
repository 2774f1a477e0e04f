import { stat } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import type { Reader, Response } from 'maxmind';
import { AppError, describeError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import type { AuditRecord } from '../core/record.ts';
import { editable, type RecordWrite, type WriteForm } from '../core/settlement.ts';

/** Addresses whose places are remembered; then it begins anew. */
const ADDRESSES_REMEMBERED_MAX = 10_000;

/** Longest name that is taken from a database. */
const NAME_CHARS_MAX = 256;

/** What the databases say of an address. */
export type AddressPlace = Pick<NonNullable<AuditRecord['source']>, 'geo' | 'as'>;

export interface Places {
  /** Adds country, city and AS to the records' sources, in place. */
  annotate(writes: readonly RecordWrite[]): void;
  /** Looks at once whether a database was replaced. */
  reload(): Promise<void>;
  close(): void;
}

export interface PlacesOptions {
  readonly databases: readonly string[];
  readonly reloadMs: number;
  readonly counters: Counters;
  readonly log: { info(details: object, message: string): void; warn(details: object, message: string): void };
}

interface Database {
  readonly path: string;
  /** Of the file as it was read: another one is read again. */
  stamp: string;
  reader: Reader<Response>;
}

/**
 * The user's own databases of places. A file that is replaced is read again; one that cannot be read then leaves what was read
 * before, and is tried again. Throws AppError('config') for a file that cannot be read at the start.
 */
export async function openPlaces(options: PlacesOptions): Promise<Places> {
  const { reloadMs, counters, log } = options;
  const databases = await Promise.all(options.databases.map(openFirst));
  const known = new Map<string, AddressPlace | undefined>();
  const complained = new Map<Database, string>();

  const reloadOne = async (database: Database): Promise<void> => {
    let stamp = 'absent';
    try {
      stamp = await stampOf(database.path);
      if (stamp === database.stamp) return;
      Object.assign(database, { reader: await openReader(database.path), stamp });
      known.clear();
      complained.delete(database);
      counters.add('place_databases_read', 1, { outcome: 'success' });
      log.info({ path: database.path }, 'database of places read again');
    } catch (thrown) {
      if (complained.get(database) === stamp) return;
      complained.set(database, stamp);
      counters.add('place_databases_read', 1, { outcome: 'failure' });
      const reason = describeError(thrown);
      log.warn({ path: database.path, reason }, 'database of places cannot be read; what it said before stands');
    }
  };
  const reload = async () => void (await Promise.all(databases.map(reloadOne)));
  const stop = databases.length > 0 ? every(reloadMs, reload) : () => undefined;
  const find = (address: string): AddressPlace | undefined => {
    if (known.has(address)) return known.get(address);
    const place = lookUp(databases, address, () => counters.add('place_lookups_failed', 1));
    if (known.size >= ADDRESSES_REMEMBERED_MAX) known.clear();
    known.set(address, place);
    return place;
  };
  return {
    annotate(writes) {
      if (databases.length === 0) return;
      for (const write of writes) {
        const address = addressOf(write);
        const place = address === undefined ? undefined : find(address);
        // Records of one trace share their source, so that it gets a new one. What was told by the evidence stays.
        if (place !== undefined) editable(write).source = { ...place, ...write.record.source };
      }
    },
    reload,
    close: stop,
  };
}

/** Where records of a form come from: an object would have to be made of each. */
const ADDRESSES = new WeakMap<WriteForm, { readonly address: string | undefined }>();

function addressOf(write: RecordWrite): string | undefined {
  const known = write.form && ADDRESSES.get(write.form);
  if (known !== undefined) return known.address;
  const address = write.record.source?.ip;
  if (write.form !== undefined) ADDRESSES.set(write.form, { address });
  return address;
}

async function openFirst(path: string): Promise<Database> {
  try {
    return { path, stamp: await stampOf(path), reader: await openReader(path) };
  } catch (cause) {
    throw new AppError('config', `origin.databases: ${path} is no mmdb file that can be read: ${describeError(cause)}`);
  }
}

async function openReader(path: string): Promise<Reader<Response>> {
  const { open } = await import('maxmind');
  return open(path);
}

/** Of another file under the same name at least one of these is another. */
async function stampOf(path: string): Promise<string> {
  const { ino, size, mtimeMs } = await stat(path);
  return `${ino} ${size} ${mtimeMs}`;
}

/** Waits after each look, and keeps no process alive for it. */
function every(waitMs: number, act: () => Promise<void>): () => void {
  let isStopped = false;
  let timer: NodeJS.Timeout | undefined;
  const wait = () => {
    if (!isStopped) timer = setTimeout(() => void act().finally(wait), waitMs).unref();
  };
  wait();
  return () => {
    isStopped = true;
    clearTimeout(timer);
  };
}

function lookUp(databases: readonly Database[], address: string, failed: () => void): AddressPlace | undefined {
  let geo: AddressPlace['geo'];
  let system: AddressPlace['as'];
  for (const { reader } of databases) {
    // Databases of IPv4 have no place for longer addresses.
    if (isIPv6(address) && reader.metadata.ipVersion === 4) continue;
    try {
      const found: unknown = reader.get(address);
      if (!isObject(found)) continue;
      geo ??= geoIn(found);
      system ??= systemIn(found);
    } catch {
      failed();
    }
  }
  return geo || system ? { ...(geo && { geo }), ...(system && { as: system }) } : undefined;
}

type Found = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Found {
  return typeof value === 'object' && value !== null;
}

function inside(found: Found, ...path: readonly string[]): unknown {
  let value: unknown = found;
  for (const key of path) value = isObject(value) ? value[key] : undefined;
  return value;
}

function nameIn(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value.slice(0, NAME_CHARS_MAX) : undefined;
}

/** As GeoLite2, GeoIP2 and DB-IP write it, and as IPinfo does. */
function geoIn(found: Found): AddressPlace['geo'] {
  const code =
    nameIn(inside(found, 'country', 'iso_code')) ??
    nameIn(inside(found, 'registered_country', 'iso_code')) ??
    nameIn(found['country_code']) ??
    nameIn(found['country']);
  const city = nameIn(inside(found, 'city', 'names', 'en')) ?? nameIn(found['city']);
  const geo: NonNullable<AddressPlace['geo']> = {};
  if (code !== undefined && /^[A-Z]{2}$/.test(code)) geo.country_iso_code = code;
  if (city !== undefined) geo.city_name = city;
  return geo.country_iso_code !== undefined || city !== undefined ? geo : undefined;
}

function systemIn(found: Found): AddressPlace['as'] {
  const stated = found['autonomous_system_number'] ?? inside(found, 'traits', 'autonomous_system_number');
  const number = typeof stated === 'number' ? stated : Number(/^AS(\d+)$/.exec(nameIn(found['asn']) ?? '')?.[1]);
  const name =
    nameIn(found['autonomous_system_organization']) ??
    nameIn(inside(found, 'traits', 'autonomous_system_organization')) ??
    nameIn(found['as_name']);
  const system: NonNullable<AddressPlace['as']> = {};
  if (Number.isSafeInteger(number)) system.number = number;
  if (name !== undefined) system.organization = { name };
  return system.number !== undefined || name !== undefined ? system : undefined;
}
