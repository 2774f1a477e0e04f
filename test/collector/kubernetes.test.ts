/**
 * deploy/collector/kubernetes.yaml with the real components. No cluster runs here: a program that answers lists and watches of
 * pods stands for the Kubernetes API, and `localhost` for the headless service.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { parseAllDocuments, stringify } from 'yaml';
import { type RunningProcess, startProcess } from '../e2e/spantrail.ts';
import { ROOT, type RunningCollector, startCollector } from './run.ts';
import { ACCESSES_A_TRACE, sendTraces } from './traffic.ts';

const collector = inject('collector');

/** The pod that everything from this machine is taken to come from. */
const POD = {
  kind: 'Pod',
  apiVersion: 'v1',
  metadata: {
    name: 'orders-7d9f5c6b8d-x2x7k',
    namespace: 'shop',
    uid: '6f9c2a1e-0000-4000-8000-000000000001',
    creationTimestamp: '2026-11-22T08:00:00Z',
    labels: { 'app.kubernetes.io/name': 'orders' },
    ownerReferences: [
      { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'orders-7d9f5c6b8d', uid: 'r-1', controller: true },
    ],
  },
  spec: { nodeName: 'node-1', containers: [{ name: 'orders', image: 'shop/orders:1.4' }] },
  status: { phase: 'Running', podIP: '127.0.0.1', startTime: '2026-11-22T08:00:00Z' },
};

/** What may be asked for; `kubernetes-rbac.yaml` says what is. */
const KINDS: Readonly<
  Record<string, { readonly kind: string; readonly apiVersion: string; readonly items: readonly object[] }>
> = {
  '/api/v1/pods': { kind: 'PodList', apiVersion: 'v1', items: [POD] },
  '/api/v1/namespaces': { kind: 'NamespaceList', apiVersion: 'v1', items: [] },
  '/apis/apps/v1/replicasets': { kind: 'ReplicaSetList', apiVersion: 'apps/v1', items: [] },
  '/apis/apps/v1/deployments': { kind: 'DeploymentList', apiVersion: 'apps/v1', items: [] },
};

describe.skipIf('skipped' in collector)('a Collector with deploy/collector/kubernetes.yaml', () => {
  let folder: string;
  let api: Server;
  let spantrail: RunningProcess;
  let otelcol: RunningCollector;
  const asked = new Set<string>();

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'spantrail-kubernetes-'));
    spantrail = await startProcess(['--store', 'memory', '--data-dir', join(folder, 'data')]);
    api = createServer(({ url = '' }, response) => answer(new URL(url, 'http://api'), response));
    await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve));
    const address = api.address();
    const port = typeof address === 'object' ? address?.port : 0;
    const cluster = { clusters: [{ name: 'here', cluster: { server: `http://127.0.0.1:${port}` } }] };
    const context = {
      contexts: [{ name: 'here', context: { cluster: 'here', user: 'nobody' } }],
      'current-context': 'here',
    };
    const kubeConfig = {
      apiVersion: 'v1',
      kind: 'Config',
      ...cluster,
      users: [{ name: 'nobody', user: {} }],
      ...context,
    };
    await writeFile(join(folder, 'kube.yaml'), stringify(kubeConfig));
    otelcol = await startCollector({
      layers: ['otel-collector-config.yaml', 'deploy/collector/kubernetes.yaml'],
      folder,
      environment: {
        ...{ K8S_AUTH_TYPE: 'kubeConfig', KUBECONFIG: join(folder, 'kube.yaml') },
        ...{ SPANTRAIL_HOST: 'localhost', SPANTRAIL_PORT: String(spantrail.grpc) },
        SPANTRAIL_ENDPOINT: `127.0.0.1:${spantrail.grpc}`,
      },
    });
  });
  afterAll(async () => {
    await Promise.all([otelcol?.stop(), spantrail?.stop()]);
    api?.closeAllConnections();
    api?.close();
    await rm(folder, { recursive: true, force: true });
  });

  function answer({ pathname, searchParams }: URL, response: ServerResponse): void {
    asked.add(pathname);
    const list = KINDS[pathname];
    response.setHeader('content-type', 'application/json');
    if (list === undefined) {
      response.statusCode = 404;
      response.end(JSON.stringify({ kind: 'Status', apiVersion: 'v1', status: 'Failure', code: 404 }));
    } else if (searchParams.get('watch') === null) {
      response.end(JSON.stringify({ ...list, metadata: { resourceVersion: '1' } }));
    } else {
      // Nothing changes; a watch that asks for the beginning as events gets it.
      const events =
        searchParams.get('sendInitialEvents') === 'true' ? list.items.map((object) => ({ type: 'ADDED', object })) : [];
      response.write(`${events.map((event) => `${JSON.stringify(event)}\n`).join('')}`);
      if (events.length > 0 || searchParams.get('sendInitialEvents') === 'true')
        response.write(`${JSON.stringify(bookmark(list))}\n`);
      response.flushHeaders();
    }
  }

  it('says which pod everything came from, and finds Spantrail by the name of its service', async () => {
    const traces = 100;
    await sendTraces(otelcol.url, 'orders', traces);
    const all = 'service.name: orders';
    await expect
      .poll(async () => (await spantrail.search(all)).length, { timeout: 60_000, interval: 200 })
      .toBe(traces * ACCESSES_A_TRACE);
    const [record] = await spantrail.search(all);
    expect(record?.orchestrator).toMatchObject({ namespace: 'shop', resource: { name: POD.metadata.name } });
  });

  it('asks for what kubernetes-rbac.yaml grants, and that grants nothing else', async () => {
    const documents = parseAllDocuments(await readFile(join(ROOT, 'deploy/collector/kubernetes-rbac.yaml'), 'utf8'));
    const [account, role, binding] = documents.map((document) => document.toJS() as Rbac);
    expect([account?.kind, role?.kind, binding?.kind]).toEqual(['ServiceAccount', 'ClusterRole', 'ClusterRoleBinding']);
    expect(binding?.roleRef?.name).toBe(role?.metadata.name);
    expect(binding?.subjects).toEqual([{ kind: 'ServiceAccount', ...account?.metadata }]);
    const granted = (role?.rules ?? []).flatMap(({ apiGroups, resources, verbs }) => {
      expect(verbs).toEqual(['get', 'list', 'watch']);
      return apiGroups.flatMap((group) =>
        resources.map((name) => `${group === '' ? '/api/v1' : `/apis/${group}/v1`}/${name}`),
      );
    });
    expect(granted.sort()).toEqual([...asked].sort());
  });
});

interface Rbac {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly rules?: readonly { readonly apiGroups: string[]; readonly resources: string[]; readonly verbs: string[] }[];
  readonly roleRef?: { readonly name: string };
  readonly subjects?: readonly object[];
}

/** What ends the beginning in such a watch. */
function bookmark({ kind, apiVersion }: { readonly kind: string; readonly apiVersion: string }): object {
  const annotations = { 'k8s.io/initial-events-end': 'true' };
  const metadata = { resourceVersion: '1', annotations };
  return { type: 'BOOKMARK', object: { kind: kind.replace(/List$/, ''), apiVersion, metadata } };
}
