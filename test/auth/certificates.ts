import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** An authority of its own, made at run time with openssl, and what it signs. All paths are of PEM files. */
export interface Authority {
  readonly folder: string;
  readonly caFile: string;
  /** What is in it. */
  readonly ca: string;
  /** For 127.0.0.1 and localhost. */
  server(name?: string, life?: Life): Pair;
  client(name: string, more?: { readonly san?: string } & Life): Pair;
  /** The list of revoked certificates as it is now. */
  crl(): string;
  revoke(pair: Pair): void;
  /** Removes all files. */
  remove(): void;
}

export interface Pair {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: string;
  readonly key: string;
}

/** Default: from an hour ago on for a day. */
interface Life {
  readonly startsInDays?: number;
  readonly endsInDays?: number;
}

const DAY_MS = 86_400_000;

export function createAuthority(name = 'test authority'): Authority {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-ca-'));
  const path = (file: string) => join(folder, file);
  const openssl = (...words: string[]) => execFileSync('openssl', words, { cwd: folder, stdio: 'pipe' });
  mkdirSync(path('new'));
  writeFileSync(path('index.txt'), '');
  writeFileSync(path('serial'), '1000\n');
  writeFileSync(path('crlnumber'), '1000\n');
  writeFileSync(path('openssl.cnf'), CONFIG);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const subject = (common: string) => ['-subj', `/O=Example/CN=${common}`];
  openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
    '-days',
    '3650',
    ...subject(name),
    '-config',
    'openssl.cnf',
    '-extensions',
    'authority',
  );
  let count = 0;
  const sign = (common: string, extensions: string, { startsInDays = -1 / 24, endsInDays = 1 }: Life): Pair => {
    const file = `${common.replace(/\W/g, '_')}-${count++}`;
    openssl(
      'req',
      '-new',
      ...key,
      '-keyout',
      `${file}.key`,
      '-out',
      `${file}.csr`,
      ...subject(common),
      '-config',
      'openssl.cnf',
    );
    writeFileSync(path(`${file}.ext`), extensions);
    const life = ['-startdate', stamp(startsInDays), '-enddate', stamp(endsInDays)];
    openssl(
      'ca',
      '-batch',
      '-notext',
      '-config',
      'openssl.cnf',
      '-in',
      `${file}.csr`,
      '-out',
      `${file}.pem`,
      '-extfile',
      `${file}.ext`,
      ...life,
    );
    const [certFile, keyFile] = [path(`${file}.pem`), path(`${file}.key`)];
    return { certFile, keyFile, cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
  };
  return {
    folder,
    caFile: path('ca.pem'),
    ca: readFileSync(path('ca.pem'), 'utf8'),
    server: (common = 'localhost', life = {}) =>
      sign(common, 'extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n', life),
    client: (common, { san = `DNS:${common}.example`, ...life } = {}) =>
      sign(common, `extendedKeyUsage=clientAuth\nsubjectAltName=${san}\n`, life),
    crl() {
      openssl('ca', '-gencrl', '-config', 'openssl.cnf', '-out', 'crl.pem');
      return path('crl.pem');
    },
    revoke: ({ certFile }) => void openssl('ca', '-config', 'openssl.cnf', '-revoke', certFile),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function stamp(days: number): string {
  const [date = '', time = ''] = new Date(Date.now() + days * DAY_MS).toISOString().split('T');
  return `${date.replaceAll('-', '')}${time.slice(0, 8).replaceAll(':', '')}Z`;
}

const CONFIG = `
[ca]
default_ca = own
[own]
dir = .
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = new
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_crl_days = 30
policy = any
unique_subject = no
[any]
organizationName = optional
commonName = supplied
[req]
distinguished_name = name
prompt = yes
[name]
commonName = name
[authority]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
`;
