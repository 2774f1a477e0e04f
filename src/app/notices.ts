import { readFile } from 'node:fs/promises';
import type { Settings } from '../config/schema.ts';
import type { Alert } from '../core/alert.ts';
import type { Clock } from '../core/clock.ts';
import { AppError, describeError } from '../core/errors.ts';
import { systemResolve } from '../notify/address.ts';
import { type Channel, openChannel } from '../notify/channel.ts';
import { TEMPLATE_NAMES, unknownName } from '../notify/content.ts';
import { makeNotice, type Outcome } from '../notify/notice.ts';
import { compileQuiet, type Quiet } from '../notify/quiet.ts';
import { compileRouting, type Routing } from '../notify/routing.ts';

/** Who hears of alerts, as the settings say. */
export interface Notifiers {
  readonly channels: ReadonlyMap<string, Channel>;
  readonly routing: Routing;
  readonly quiet: Quiet;
}

/** Throws AppError `config` that names the setting. */
export async function openNotifiers(
  { channels, routes, quiet, baseUrl, timeoutMs }: Settings['notify'],
  { clock, version }: { readonly clock: Clock; readonly version: string },
): Promise<Notifiers> {
  const opened = new Map<string, Channel>();
  for (const [at, settings] of channels.entries()) {
    const place = `notify.channels.${at}`;
    for (const part of ['title', 'text'] as const) {
      const text = settings.template[part];
      const unknown = text === undefined ? undefined : unknownName(text);
      if (unknown === undefined) continue;
      const words = `there is no \${${unknown}}; there are ${TEMPLATE_NAMES} and group. with a field`;
      throw new AppError('config', `${place}.template.${part}: ${words}`);
    }
    const ca = settings.caFile === undefined ? undefined : await readAuthority(`${place}.caFile`, settings.caFile);
    opened.set(
      settings.name,
      openChannel(settings, { clock, version, ca, baseUrl, timeoutMs, resolve: systemResolve }),
    );
  }
  return { channels: opened, routing: compileRouting(routes, [...opened.keys()]), quiet: quietOf(quiet) };
}

function quietOf(settings: Settings['notify']['quiet']): Quiet {
  try {
    return compileQuiet(settings);
  } catch (cause) {
    throw new AppError('config', describeError(cause), { cause });
  }
}

async function readAuthority(setting: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new AppError('config', `${setting}: ${path} cannot be read`, { cause });
  }
}

/** Sends one made-up alert now, past outbox, routes and quiet times. AppError `not_found` when there is no such channel. */
export async function testChannel({ channels }: Notifiers, name: string, nowMs: number): Promise<Outcome> {
  const channel = channels.get(name);
  if (channel === undefined) {
    const known = [...channels.keys()].join(', ');
    throw new AppError(
      'not_found',
      `there is no channel "${name}"; ${known === '' ? 'none is set' : `there are ${known}`}`,
    );
  }
  const at = new Date(nowMs).toISOString();
  const alert: Alert = {
    id: `test-${nowMs.toString(36)}`,
    rule: { id: 'test', name: 'Test of a channel', type: 'query', severity: 'low' },
    namespace: 'default',
    state: 'open',
    reason: 'Somebody tries this channel with "spantrail notify test"; nothing happened.',
    group: {},
    ...{ firstAt: at, lastAt: at, raisedAt: at, count: 0, records: [], traces: [], history: [] },
  };
  return channel.deliver(makeNotice(alert, 'raised', 1, name, nowMs));
}
