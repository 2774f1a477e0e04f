import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { parseAllDocuments, stringify } from 'yaml';
import { loadSettings } from '../../src/config/load.ts';
import { type Authority, createAuthority } from '../auth/certificates.ts';
import { runProgram } from '../setup/cache.ts';
import { type RunningProgram, startProgram } from '../setup/program.ts';

const tools = inject('packageTools');
const ROOT = join(import.meta.dirname, '../..');
const CHART = join(ROOT, 'deploy/helm/spantrail');
const PROGRAM = join(ROOT, 'src/cli/spantrail.mjs');
/** A cluster of today; helm as it is built here takes itself for an old one. */
const KUBERNETES = '1.34.0';

/** Everything that the chart can do. */
const EVERYTHING = {
  replicas: 3,
  image: { repository: 'registry.example/spantrail', tag: '1' },
  imagePullSecrets: [{ name: 'pull' }],
  settings: { workers: 2, wal: { horizonAgeMs: '2h' }, forward: { tls: { caFile: '/etc/spantrail/tls/ca.crt' } } },
  env: [{ name: 'ANY', value: 'thing' }],
  tls: { clientCertificate: 'optional' },
  store: {
    type: 'elasticsearch',
    elasticsearch: { urls: ['https://elasticsearch:9200'], credentialsSecret: 'writer', caSecret: 'ca' },
  },
  forward: { endpoint: 'https://collector:4317' },
  persistence: { storageClassName: 'fast' },
  service: { annotations: { of: 'mine' } },
  networkPolicy: {
    readers: [],
    egress: [{ to: [{ podSelector: { matchLabels: { app: 'elasticsearch' } } }], ports: [{ port: 9200 }] }],
  },
  serviceMonitor: { enabled: true },
  prometheusRule: { enabled: true },
  dashboard: { enabled: true },
  podAnnotations: { of: 'mine' },
  podLabels: { team: 'audit' },
  nodeSelector: { disk: 'ssd' },
  tolerations: [{ key: 'audit', operator: 'Exists' }],
  topologySpreadConstraints: [{ maxSkew: 1, topologyKey: 'zone', whenUnsatisfiable: 'ScheduleAnyway' }],
  priorityClassName: 'high',
};
const MESH = { insecure: true, tls: { secretName: '' }, auth: { secretName: '' }, networkPolicy: { enabled: false } };
const VALUES = { defaults: {}, everything: EVERYTHING, mesh: MESH };

/** Values that cannot work, and the words that say so before anything is installed. */
const MISTAKES: [string, object, RegExp][] = [
  ['a value that there is not', { replica: 2 }, /'replica' not allowed/],
  ['replicas that each have a part', { replicas: 2 }, /replicas: with store.type duckdb/],
  ['a cluster nowhere', { store: { type: 'elasticsearch' } }, /store.elasticsearch.urls: .* needs the address/],
  ['nobody to ask who it is', { auth: { secretName: '' } }, /tls.secretName and auth.secretName: /],
  ['what is forwarded unsigned', { forward: { endpoint: 'http://c:4317', secretName: '' } }, /forward.secretName: /],
];

interface Container {
  readonly args: string[];
  readonly env?: { name: string; value?: string }[];
  readonly volumeMounts: { name: string; mountPath: string }[];
  readonly startupProbe: Probe;
  readonly livenessProbe: Probe;
  readonly readinessProbe: Probe;
}
interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string; readonly scheme: string };
}
interface Manifest {
  readonly kind: string;
  readonly data: Record<string, string>;
  readonly spec: { template: { spec: { containers: [Container]; volumes: { name: string }[] } } };
}

describe.skipIf('skipped' in tools)('the Helm chart', () => {
  const folder = mkdtempSync(join(tmpdir(), 'spantrail-helm-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** Of a helm command on the chart: its output, or its complaint. */
  function helm(command: string[], values: object): { text: string; failed: boolean } {
    const file = join(folder, 'values.yaml');
    writeFileSync(file, stringify(values));
    const words = [...command, CHART, '--kube-version', KUBERNETES, '--values', file];
    const { status, stdout, stderr } = spawnSync('skipped' in tools ? '' : tools.helm, words, { encoding: 'utf8' });
    return { text: status === 0 ? stdout : stdout + stderr, failed: status !== 0 };
  }
  function render(values: object): { text: string; manifests: Manifest[] } {
    const { text, failed } = helm(['template', 'audit'], values);
    if (failed) throw new Error(text);
    const manifests = parseAllDocuments(text, { merge: true }).flatMap((document) => {
      const value: unknown = document.toJS();
      return value ? [value as Manifest] : [];
    });
    return { text, manifests };
  }
  const kind = (manifests: readonly Manifest[], name: string) => {
    const found = manifests.find((manifest) => manifest.kind === name);
    if (!found) throw new Error(`no ${name}`);
    return found;
  };

  it.each(Object.entries(VALUES))('is what Kubernetes takes, with %s', async (_, values) => {
    if ('skipped' in tools) return;
    expect(helm(['lint', '--strict', '--quiet'], values)).toEqual({ text: '', failed: false });
    const { text, manifests } = render(values);
    const schemas = join(tools.schemas, '{{.ResourceKind}}{{.KindSuffix}}.json');
    const conform = (input: string) =>
      spawnSync(tools.kubeconform, ['-strict', '-skip', 'ServiceMonitor,PrometheusRule', '-schema-location', schemas], {
        input,
        encoding: 'utf8',
      });
    expect(conform(text)).toMatchObject({ status: 0, stdout: '' });
    if (values === MESH) {
      const misspelt = text.replace('clusterIP: None', 'clusterIp: None');
      expect(conform(misspelt).stdout).toContain("'clusterIp' not allowed");
    }
    for (const manifest of manifests) {
      if (manifest.kind !== 'ServiceMonitor' && manifest.kind !== 'PrometheusRule') continue;
      const path = `node_modules/@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/${manifest.kind}.js`;
      const models = await import(pathToFileURL(join(tools.models, path)).href);
      expect(() => new models[manifest.kind](manifest).validate()).not.toThrow();
    }
    // Each volume is mounted, and what is mounted is a volume or a claim.
    const { containers, volumes } = kind(manifests, 'StatefulSet').spec.template.spec;
    const mounted = containers[0].volumeMounts.map(({ name }) => name).sort();
    expect(mounted).toEqual(['data', ...volumes.map(({ name }) => name)].sort());
  });

  it.each(MISTAKES)('says what is wrong with %s', (_, values, words) => {
    const { text, failed } = helm(['template', 'audit'], values);
    expect(failed).toBe(true);
    expect(text).toMatch(words);
  });

  it('has settings that Spantrail takes', () => {
    for (const values of Object.values(VALUES)) {
      const { manifests } = render(values);
      const file = join(folder, 'spantrail.yaml');
      writeFileSync(file, kind(manifests, 'ConfigMap').data['spantrail.yaml'] ?? '');
      const names = (kind(manifests, 'StatefulSet').spec.template.spec.containers[0].env ?? []).map(({ name }) => name);
      // Of a user and an API key a Secret has the one or the other.
      const given = names.filter((name) => !name.endsWith('_API_KEY')).map((name) => [name, 'a'.repeat(32)]);
      const settings = loadSettings({ file, environment: Object.fromEntries(given) });
      const { replicas = 1 } = values as { replicas?: number };
      expect(settings).toMatchObject({ receive: { grpc: { host: '0.0.0.0' } }, dataDir: '/var/lib/spantrail/data' });
      expect(settings.store.elasticsearch.replicas).toBe(replicas > 1 ? 1 : 0);
    }
  });

  it.each(['grafana/health.json', 'prometheus/alerts.yaml'])('has %s as it is', (path) => {
    const [, name = ''] = path.split('/');
    expect(readFileSync(join(CHART, 'files', name), 'utf8')).toBe(readFileSync(join(ROOT, 'deploy', path), 'utf8'));
  });

  describe('installed with nothing but its Secrets', () => {
    let authority: Authority;
    let running: RunningProgram;
    let container: Container;
    let ports: { http: number; api: number };
    const tokens = { collector: '', prometheus: '' };

    beforeAll(async () => {
      const { manifests } = render({});
      [container] = kind(manifests, 'StatefulSet').spec.template.spec.containers;
      const here = (text: string) =>
        text.replaceAll('/etc/spantrail', join(folder, 'etc')).replaceAll('/var/lib/spantrail', join(folder, 'data'));
      for (const { mountPath } of container.volumeMounts) {
        if (mountPath !== '/tmp') mkdirSync(here(mountPath), { recursive: true });
      }
      authority = createAuthority();
      const { certFile, keyFile } = authority.server();
      copyFileSync(certFile, join(folder, 'etc/tls/tls.crt'));
      copyFileSync(keyFile, join(folder, 'etc/tls/tls.key'));
      const create = async (name: keyof typeof tokens, right: string) => {
        const made = await runProgram(process.execPath, [PROGRAM, 'token', 'create', name, '--can', right, '--json']);
        const { token, ...entry } = JSON.parse(made) as { token: string };
        tokens[name] = token;
        return entry;
      };
      const entries = [await create('collector', 'send'), await create('prometheus', 'monitor')];
      writeFileSync(join(folder, 'etc/tokens/tokens.yaml'), stringify({ tokens: entries }));
      const settings = kind(manifests, 'ConfigMap').data['spantrail.yaml'] ?? '';
      writeFileSync(join(folder, 'etc/settings/spantrail.yaml'), here(settings));
      const environment = {
        PATH: process.env['PATH'],
        SPANTRAIL_RECEIVE_GRPC_PORT: '0',
        SPANTRAIL_RECEIVE_HTTP_PORT: '0',
        SPANTRAIL_API_PORT: '0',
      };
      running = await startProgram(
        process.execPath,
        [PROGRAM, ...container.args.map(here)],
        /^(\{"ready":true.*\})$/m,
        { environment },
      );
      ports = JSON.parse(running.ready[1] ?? '');
    });
    afterAll(async () => {
      await running?.stop();
      authority?.remove();
    });

    async function ask(method: string, port: number, path: string, token?: string): Promise<number | undefined> {
      const headers = {
        'content-type': 'application/x-protobuf',
        ...(token && { authorization: `Bearer ${token}` }),
      };
      const options = { host: '127.0.0.1', port, path, method, headers, ca: readFileSync(authority.caFile) };
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        request(options, resolve).on('error', reject).end();
      });
      response.resume();
      return response.statusCode;
    }

    it('answers the probes, which have no token', async () => {
      for (const { httpGet } of [container.startupProbe, container.livenessProbe, container.readinessProbe]) {
        expect(httpGet).toMatchObject({ port: 'api', scheme: 'HTTPS' });
        expect(await ask('GET', ports.api, httpGet.path)).toBe(200);
      }
    });

    it('takes evidence and shows metrics to those who have the token for it', async () => {
      const send = (token?: string) => ask('POST', ports.http, '/v1/traces', token);
      expect([await send(), await send(tokens.prometheus), await send(tokens.collector)]).toEqual([401, 403, 200]);
      const metrics = (token?: string) => ask('GET', ports.api, '/metrics', token);
      expect([await metrics(), await metrics(tokens.collector), await metrics(tokens.prometheus)]).toEqual([
        401, 403, 200,
      ]);
    });
  });
});
