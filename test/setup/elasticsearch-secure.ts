/**
 * A real Elasticsearch with security and TLS on: the roles of deploy/elasticsearch, a user for each, and certificates that are
 * made for this run.
 */
import { pbkdf2Sync, randomBytes } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isInstalled, runProgram } from './cache.ts';
import { type ElasticsearchVersion, startElasticsearch } from './elasticsearch.ts';
import { lacking, type Skipped } from './require.ts';

const ROLES_FOLDER = join(import.meta.dirname, '../../deploy/elasticsearch');

/** Each user and the files of deploy/elasticsearch that are its roles. `nobody_there` may log in and has no rights. */
const USERS = {
  writer: ['writer'],
  sweeper: ['writer', 'retention'],
  reader: ['reader'],
  administrator: ['administrator'],
  owner: [],
  bystander: [],
} as const satisfies Record<string, readonly string[]>;

export type SecureUser = keyof typeof USERS;

/** Plain data, so that it can be handed to test files. */
export interface SecureElasticsearch {
  readonly url: string;
  /** Authority that signed the server's certificate, and one that did not. */
  readonly caFile: string;
  readonly otherCaFile: string;
  /** Passwords, made up for this run. `owner` may do everything. */
  readonly passwords: Readonly<Record<SecureUser, string>>;
}

export interface RunningSecureServer {
  readonly server: SecureElasticsearch;
  stop(): Promise<void>;
}

/** Starts one on free ports of the loopback address. */
export async function startSecureElasticsearch(version: ElasticsearchVersion): Promise<RunningSecureServer | Skipped> {
  if (!(await isInstalled('openssl'))) return lacking('elasticsearch', 'openssl is not installed');
  const folder = await mkdtemp(join(tmpdir(), 'spantrail-authority-'));
  const remove = () => rm(folder, { recursive: true, force: true });
  try {
    await makeCertificates(folder);
    const passwords = Object.fromEntries(
      Object.keys(USERS).map((user) => [user, randomBytes(12).toString('hex')]),
    ) as Record<SecureUser, string>;
    const running = await startElasticsearch(version, {
      settings: [
        'xpack.security.enabled: true',
        'xpack.security.transport.ssl.enabled: false',
        'xpack.security.http.ssl.enabled: true',
        'xpack.security.http.ssl.key: certificates/server.key',
        'xpack.security.http.ssl.certificate: certificates/server.pem',
        'xpack.security.authc.api_key.enabled: true',
      ],
      prepare: (home) => prepare(home, folder, passwords),
    });
    if ('skipped' in running) {
      await remove();
      return running;
    }
    const server = {
      ...{ url: running.url, passwords },
      ...{ caFile: join(folder, 'authority.pem'), otherCaFile: join(folder, 'other.pem') },
    };
    return { server, stop: () => running.stop().finally(remove) };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function makeCertificates(folder: string): Promise<void> {
  const openssl = (...parameters: string[]) => runProgram('openssl', parameters, { folder });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  for (const name of ['authority', 'other']) {
    const subject = ['-subj', `/CN=${name} of this test run`];
    await openssl('req', '-x509', ...key, '-days', '2', ...subject, '-keyout', `${name}.key`, '-out', `${name}.pem`);
  }
  await openssl('req', ...key, '-subj', '/CN=elasticsearch', '-keyout', 'server.key', '-out', 'server.csr');
  await writeFile(join(folder, 'names'), 'subjectAltName=IP:127.0.0.1');
  const signer = ['-CA', 'authority.pem', '-CAkey', 'authority.key', '-CAcreateserial', '-days', '2'];
  await openssl('x509', '-req', '-in', 'server.csr', ...signer, '-extfile', 'names', '-out', 'server.pem');
}

async function prepare(home: string, folder: string, passwords: Record<SecureUser, string>): Promise<void> {
  const config = join(home, 'config');
  await mkdir(join(config, 'certificates'));
  for (const name of ['server.key', 'server.pem']) {
    await writeFile(join(config, 'certificates', name), await readFile(join(folder, name)));
  }
  await chmod(join(config, 'certificates/server.key'), 0o600);
  const roles = new Map<string, string>();
  for (const name of new Set(Object.values(USERS).flat())) {
    const { metadata: _, ...role } = JSON.parse(await readFile(join(ROLES_FOLDER, `${name}.json`), 'utf8'));
    // One line each, since this file is cut at lines that are not indented; JSON is YAML.
    roles.set(`spantrail_${name}`, JSON.stringify(role));
  }
  await writeFile(join(config, 'roles.yml'), lines([...roles].map(([name, role]) => `${name}: ${role}`)));
  await writeFile(
    join(config, 'users'),
    lines(Object.entries(passwords).map(([user, word]) => `${user}:${hash(word)}`)),
  );
  const members = [...roles.keys()].map((role) => {
    const users = Object.entries(USERS).filter(([, names]) => names.some((name) => `spantrail_${name}` === role));
    return `${role}:${users.map(([user]) => user).join(',')}`;
  });
  await writeFile(join(config, 'users_roles'), lines([...members, 'superuser:owner']));
}

/** As elasticsearch-users would write it, without starting Java for each user. */
function hash(password: string): string {
  const salt = randomBytes(32);
  const rounds = 1_000;
  const derived = pbkdf2Sync(password, salt, rounds, 32, 'sha512');
  return `{PBKDF2}${rounds}$${salt.toString('base64')}$${derived.toString('base64')}`;
}

function lines(all: readonly string[]): string {
  return `${all.join('\n')}\n`;
}
