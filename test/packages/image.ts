/**
 * Builds the container image as deploy/docker/Dockerfile says and runs it: `node test/packages/image.ts`. Minutes long, as root on Debian with
 *   apt-get install buildah podman runc mmdebstrap
 * and so no test of the suite. Where the registry of the base image is out of reach a stand-in takes its place: Debian's own packages and
 * this checkout's Node, under the base's name.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { EXPECTED } from '../../src/app/demo/cases.ts';

const ROOT = join(import.meta.dirname, '../..');
const DOCKERFILE = 'deploy/docker/Dockerfile';
const [, BASE = ''] = /^ARG NODE_IMAGE=(.*)$/m.exec(readFileSync(join(ROOT, DOCKERFILE), 'utf8')) ?? [];
/** What a machine that reads its packages through a proxy trusts. */
const AUTHORITIES = '/etc/ssl/certs/ca-certificates.crt';
/** As in docs/install.md: nothing to write to but the data folder, no rights, no way to more. */
const CONFINED = ['--read-only', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges'];
/** What an engine inside of another machine's limits may ask for. */
const ENGINE = ['--runtime', 'runc', '--cgroup-manager', 'cgroupfs'];
const WITHIN = ['--ulimit', 'nofile=4096:4096', '--ulimit', 'nproc=4096:4096', '--network', 'host'];
const FREE_PORTS = ['API_PORT', 'RECEIVE_GRPC_PORT', 'RECEIVE_HTTP_PORT'].map((name) => `SPANTRAIL_${name}=0`);
/** Listening on this machine alone: what the test opens nobody else reaches. */
const LOOPBACK = ['API', 'RECEIVE_GRPC', 'RECEIVE_HTTP'].map((name) => `SPANTRAIL_${name}_HOST=127.0.0.1`);

const folder = mkdtempSync(join(tmpdir(), 'spantrail-image-'));
const VOLUME = `spantrail-image-${process.pid}`;

/** What it printed; a failure throws with what it complained of. */
function run(program: string, ...words: string[]): string {
  return execFileSync(program, words, { cwd: ROOT, encoding: 'utf8', stdio: 'pipe', maxBuffer: 1 << 28 }).trim();
}

function say(what: string, is: boolean): void {
  process.stdout.write(`${is ? 'ok    ' : 'FAILED'} ${what}\n`);
  if (!is) process.exitCode = 1;
}

function podman(image: string, environment: string[], ...words: string[]): string[] {
  const variables = environment.flatMap((pair) => ['--env', pair]);
  const volume = ['--volume', `${VOLUME}:/var/lib/spantrail`];
  return [
    ...ENGINE,
    'run',
    '--rm',
    ...WITHIN,
    ...CONFINED,
    '--tmpfs',
    '/tmp',
    ...volume,
    ...variables,
    image,
    ...words,
  ];
}

function makeBase(): void {
  if (spawnSync('podman', ['image', 'exists', BASE]).status === 0) return;
  if (spawnSync('podman', ['pull', BASE], { stdio: 'ignore' }).status === 0) return;
  process.stdout.write(`${BASE} is out of reach: a stand-in is made of Debian's packages\n`);
  const system = join(folder, 'system.tar');
  run('mmdebstrap', '--quiet', '--variant=minbase', '--include=ca-certificates,libatomic1', 'bookworm', system);
  const local = join(folder, 'local');
  mkdirSync(join(local, 'bin'), { recursive: true });
  copyFileSync(process.execPath, join(local, 'bin/node'));
  const [npm = ''] = run('npm', 'pack', '--silent', '--pack-destination', folder, 'npm@11').split('\n').slice(-1);
  mkdirSync(join(local, 'lib/node_modules/npm'), { recursive: true });
  run('tar', '-xzf', join(folder, npm), '-C', join(local, 'lib/node_modules/npm'), '--strip-components=1');
  const container = run('buildah', 'from', 'scratch');
  const inside = (command: string) =>
    run('buildah', 'run', '--isolation', 'chroot', container, '--', 'sh', '-ec', command);
  run('buildah', 'add', container, system, '/');
  run('buildah', 'copy', container, local, '/usr/local');
  if (existsSync(AUTHORITIES)) run('buildah', 'copy', container, AUTHORITIES, AUTHORITIES);
  inside('chmod 755 /usr/local/bin/node /usr/local/lib/node_modules/npm/bin/*.js');
  inside('ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm');
  inside('groupadd -g 1000 node; useradd -u 1000 -g node -m node');
  run('buildah', 'config', '--env', `NODE_EXTRA_CA_CERTS=${AUTHORITIES}`, container);
  run('buildah', 'commit', '--quiet', container, BASE);
  run('buildah', 'rm', container);
}

/** Of what is committed, so that the result is one of a commit. */
function build(target: string): string {
  const image = `localhost/spantrail-image-test:${target}`;
  const context = join(folder, 'context');
  if (!existsSync(context)) {
    mkdirSync(context);
    run('sh', '-c', `git archive HEAD | tar -x -C "${context}"`);
    cpSync(join(context, `${DOCKERFILE}.dockerignore`), join(folder, 'ignore'));
  }
  const files = ['-f', join(context, DOCKERFILE), '--ignorefile', join(folder, 'ignore')];
  const how = [
    '--quiet',
    '--pull-never',
    '--isolation',
    'chroot',
    '--network',
    'host',
    '--layers',
    '--format',
    'docker',
  ];
  run('buildah', 'bud', ...how, ...files, '--target', target, '-t', image, context);
  return image;
}

async function serve(image: string): Promise<void> {
  const child = spawn('podman', podman(image, [...FREE_PORTS, ...LOOPBACK]), { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const [line] = (await Promise.race([once(createInterface(child.stdout), 'line'), exited])) as [string];
  const { api, http, grpc } = JSON.parse(line) as { api: number; http: number; grpc: number };
  const local = (port: number, path: string, method = 'GET') =>
    fetch(`http://127.0.0.1:${port}${path}`, { method, headers: { 'content-type': 'application/x-protobuf' } });
  say('is ready', (await local(api, '/readyz')).status === 200);
  say('takes OTLP', (await local(http, '/v1/traces', 'POST')).status === 200);
  const demo = build('demo');
  const clinic = podman(demo, [], 'demo', '--once', '--to', `http://127.0.0.1:${grpc}`);
  const day = spawn('podman', clinic.toSpliced(clinic.indexOf('--volume'), 2), { stdio: 'ignore' });
  const [dayCode] = (await once(day, 'exit')) as [number | null];
  say('has a clinic beside it, from the image `demo`', dayCode === 0);
  for (const { query, title, inner } of EXPECTED.filter(({ shown }) => shown)) {
    const parameters = new URLSearchParams({ q: query, inner: String(inner === true) });
    const found = async () => {
      const answer = (await (await local(api, `/api/v1/records?${parameters}`)).json()) as { records: unknown[] };
      return answer.records.length > 0;
    };
    let is = await found();
    for (let waits = 0; waits < 60 && !is; waits += 1) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      is = await found();
    }
    say(`records: ${title}`, is);
  }
  child.kill('SIGTERM');
  const [code] = (await exited) as [number | null];
  say('ends at a SIGTERM', code === 0);
}

try {
  makeBase();
  const image = build('spantrail');
  const inside = (command: string) => {
    const words = podman(image, [], '-c', command);
    words.splice(words.indexOf(image), 0, '--entrypoint', 'sh');
    return spawnSync('podman', words, { encoding: 'utf8' });
  };
  process.stdout.write(
    `commit ${run('git', 'rev-parse', '--short', 'HEAD')}, ${inside('du -sh /opt/spantrail').stdout}`,
  );
  const version = spawnSync('podman', podman(image, [], '--version'), { encoding: 'utf8' }).stdout.trim();
  say(`has the command spantrail, ${version}`, /^\d+\.\d+\.\d+$/.test(version));
  const open = spawnSync('podman', podman(image, FREE_PORTS), { encoding: 'utf8' });
  say('does not start open to others, and says what to do', open.status === 2 && /--insecure/.test(open.stderr));
  say('is nobody with rights', inside('id -u').stdout.trim() === '1000');
  say('has a root that cannot be written to', /Read-only/.test(inside('touch /opt/spantrail/x').stderr));
  say('has no npm', inside('command -v npm').status !== 0);
  say(
    'has DuckDB and not what the clinic needs',
    inside('cd /opt/spantrail/node_modules && ls @duckdb pg').status === 2,
  );
  const kibana = spawnSync('podman', podman(image, [], 'setup', '--kibana', 'http://127.0.0.1:9'), {
    encoding: 'utf8',
  });
  say('has what `setup --kibana` imports', kibana.status === 5 && /no Kibana answers/.test(kibana.stderr));
  await serve(image);
} finally {
  spawnSync('podman', ['volume', 'rm', '--force', VOLUME], { stdio: 'ignore' });
  rmSync(folder, { recursive: true, force: true });
}
