import { readFile } from 'node:fs/promises';
import type { PipelineAnswer } from '../api/contract.ts';
import { inspectTls } from '../auth/tls.ts';
import { readTokens } from '../config/auth.ts';
import type { Settings } from '../config/schema.ts';
import { describeError } from '../core/errors.ts';
import type { Finding } from './doctor.ts';
import { checkExposure } from './exposure.ts';

const DAY_MS = 86_400_000;

/** Time enough to renew a certificate or a token by hand. */
const ENDING_MS = 30 * DAY_MS;

/** Who may come in by the settings, and whether their files are as they must be. */
export async function checkDoors(settings: Settings, nowMs: number): Promise<Finding[]> {
  const { receive, api, auth } = settings;
  const listeners = [
    ['receive.grpc.tls', receive.grpc.tls],
    ['receive.http.tls', receive.http.tls],
    ['api.tls', api.tls],
  ] as const;
  const found = await Promise.all(
    listeners.map(async ([setting, tls]) =>
      tls ? [await checked(() => inspectTls(tls, setting, nowMs), setting, nowMs)] : [],
    ),
  );
  return [...exposure(settings), ...found.flat(), ...(await checkTokens(auth, nowMs))];
}

function exposure(settings: Settings): Finding[] {
  try {
    return checkExposure(settings).map((text) => ({ state: 'note', text }));
  } catch (error) {
    return describeError(error)
      .split('\n')
      .map((text) => ({ state: 'bad', text }));
  }
}

async function checked(inspect: () => Promise<number>, setting: string, nowMs: number): Promise<Finding> {
  try {
    const endsAtMs = await inspect();
    const text = `${setting}: the certificate ends on ${new Date(endsAtMs).toISOString().slice(0, 10)}`;
    if (endsAtMs > nowMs + ENDING_MS) return { state: 'ok', text };
    const days = Math.floor((endsAtMs - nowMs) / DAY_MS);
    return { state: 'note', text: `${text}, in ${days} days; a new one in its place is taken up without a restart` };
  } catch (error) {
    return { state: 'bad', text: describeError(error) };
  }
}

async function checkTokens(auth: Settings['auth'], nowMs: number): Promise<Finding[]> {
  let { tokens } = auth;
  try {
    if (auth.tokensFile !== undefined) tokens = [...tokens, ...readTokens(await readFile(auth.tokensFile, 'utf8'))];
  } catch (error) {
    return [{ state: 'bad', text: `auth.tokensFile: ${auth.tokensFile}: ${describeError(error)}` }];
  }
  const holders = [...tokens, ...auth.certificates].filter(({ revoked }) => !revoked);
  if (holders.length === 0) return [];
  const ended = holders.filter(({ expiresAt = Number.POSITIVE_INFINITY }) => expiresAt <= nowMs);
  const ending = holders.filter(
    ({ expiresAt }) => expiresAt !== undefined && expiresAt > nowMs && expiresAt <= nowMs + ENDING_MS,
  );
  const names = (entries: typeof holders) => [...new Set(entries.map(({ name }) => name))].join(', ');
  const texts = [
    ended.length > 0 && `expired, and refused by now: ${names(ended)} (auth)`,
    ending.length > 0 && `end within 30 days: ${names(ending)} (auth); add the next ones before`,
  ].filter((text) => text !== false);
  if (texts.length === 0) return [{ state: 'ok', text: `tokens and certificates of ${names(holders)}` }];
  return texts.map((text) => ({ state: 'note', text }));
}

/** What a running Spantrail has met at its doors. */
export function describeDoors({ counters }: PipelineAnswer): Finding[] {
  const told = (name: string, label: string) =>
    counters
      .filter((sample) => sample.name === name && sample.value > 0)
      .map(({ labels, value }) => (name === 'reload_failing' ? labels[label] : `${value} ${labels[label]}`))
      .join(', ');
  const failing = told('reload_failing', 'file');
  const refused = [told('unauthenticated', 'reason'), told('tls_refused', 'reason')]
    .filter((text) => text !== '')
    .join(', ');
  const quota = told('over_quota', 'sender');
  const findings: (Finding | false)[] = [
    failing !== '' && {
      state: 'bad',
      text: `cannot be used as it is now, and what was read before counts on: ${failing}; the log says why`,
    },
    refused !== '' && {
      state: 'note',
      text: `refused for their credentials since the start: ${refused}; the log has the addresses of those refused in TLS`,
    },
    quota !== '' && { state: 'note', text: `told to wait for their quota since the start: ${quota}` },
  ];
  return findings.filter((finding) => finding !== false);
}
