import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import { describeSettings } from '../../src/config/describe.ts';
import { loadSettings } from '../../src/config/load.ts';

const tools = inject('packageTools');
const ROOT = join(import.meta.dirname, '../..');
const DOCKERFILE = readFileSync(join(ROOT, 'deploy/docker/Dockerfile'), 'utf8');

interface Service {
  readonly image: string;
  readonly build?: { readonly context: string; readonly dockerfile: string; readonly target: string };
  readonly environment?: readonly string[] | Record<string, string>;
  readonly ports?: readonly { readonly host_ip?: string; readonly published: string; readonly target: number }[];
  readonly volumes?: readonly { readonly type: string; readonly source: string; readonly target: string }[];
}
interface Project {
  readonly services: Record<string, Service>;
  readonly volumes: Record<string, unknown>;
}

const TRIAL = ['compose.yaml'];
const OPEN = ['compose.yaml', 'compose.tls.yaml'];

describe.skipIf('skipped' in tools)('the Compose files', () => {
  /** As Compose understands them; variables of the shell stay as they are. */
  function read(files: readonly string[]): Project {
    const words = ['-format', 'json', '-no-interpolation', ...files];
    const options = { cwd: join(ROOT, 'deploy/compose'), encoding: 'utf8' } as const;
    const { status, stdout, stderr } = spawnSync('skipped' in tools ? '' : tools.compose, words, options);
    if (status !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as Project;
  }
  function service(project: Project, name: string): Service {
    const found = project.services[name];
    if (!found) throw new Error(`no service ${name}`);
    return found;
  }
  function environmentOf({ environment = {} }: Service): Record<string, string> {
    if (!Array.isArray(environment)) return environment as Record<string, string>;
    return Object.fromEntries(environment.map((pair: string) => pair.split(/=(.*)/s) as [string, string]));
  }

  it.each([TRIAL, OPEN])('are understood, and what they name is there: %s %s', (...files) => {
    const project = read(files);
    for (const { image, build, volumes = [] } of Object.values(project.services)) {
      expect(image).toMatch(/:\d+\.\d+\.\d+$/);
      if (build) {
        expect(join(build.context, build.dockerfile)).toBe(join(ROOT, 'deploy/docker/Dockerfile'));
        expect(DOCKERFILE).toMatch(new RegExp(`^FROM .* AS ${build.target}$`, 'm'));
      }
      for (const { type, source } of volumes) {
        if (type === 'volume') expect(Object.keys(project.volumes)).toContain(source);
        else if (!source.includes('/secrets')) expect(existsSync(source), source).toBe(true);
      }
    }
  });

  it.each([TRIAL, OPEN])('set what there is to be set: %s %s', (...files) => {
    const project = read(files);
    const known = new Set(describeSettings().map(({ variable }) => variable));
    const environment = environmentOf(service(project, 'spantrail'));
    expect(Object.keys(environment).filter((name) => !known.has(name))).toEqual([]);
    const isOpen = files.length > 1;
    expect(loadSettings({ environment })).toMatchObject({ insecure: !isOpen, store: { type: 'elasticsearch' } });
    const collector = readFileSync(join(ROOT, 'otel-collector-config.yaml'), 'utf8');
    const variables = Object.keys(environmentOf(service(project, 'collector')));
    expect(variables.filter((name) => name !== 'GOMEMLIMIT' && !collector.includes(`\${env:${name}`))).toEqual([]);
  });

  it('let in from outside only who must prove who it is', () => {
    const published = (files: readonly string[]) =>
      Object.entries(read(files).services).flatMap(([name, { ports = [] }]) =>
        ports.filter(({ host_ip: host }) => host !== '127.0.0.1').map(({ target }) => `${name}:${target}`),
      );
    expect(published(TRIAL)).toEqual([]);
    expect(published(OPEN)).toEqual(['spantrail:4317', 'spantrail:4318', 'spantrail:4320']);
  });

  it('are refused with a mistake', () => {
    const words = ['-format', 'json', '-'];
    const input = 'services: { spantrail: { imagee: spantrail } }';
    const { status } = spawnSync('skipped' in tools ? '' : tools.compose, words, { input, encoding: 'utf8' });
    expect(status).not.toBe(0);
  });

  it('build from a Dockerfile that its linter has nothing to say about', () => {
    if ('skipped' in tools) return;
    const lint = (input: string) => spawnSync(tools.hadolint, ['-'], { input, encoding: 'utf8' });
    expect(lint(DOCKERFILE)).toMatchObject({ status: 0, stdout: '' });
    expect(lint(DOCKERFILE.replace('SHELL', '#')).stdout).toContain('DL4006');
    // The image runs the Node that the tests run.
    expect(DOCKERFILE).toContain(`node:${process.versions.node}-`);
  });
});
