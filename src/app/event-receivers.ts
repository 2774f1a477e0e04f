import { PRESET_NAMES } from '../access/mappings/names.ts';
import type { Settings } from '../config/schema.ts';
import type { Clock } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import { createAccessService } from '../receive/access-service.ts';
import type { Admit } from '../receive/admission.ts';
import { createEventsRoute } from '../receive/events-service.ts';
import type { SignatureSettings } from '../receive/events-signature.ts';
import type { UnaryMethod } from '../receive/grpc-server.ts';
import type { HttpRoute } from '../receive/http-reply.ts';

/** The ways in beside OTLP: the access API and webhooks. Throws AppError('config') for secrets of a preset that is not there. */
export function openEventReceivers(
  { events, mappings }: Pick<Settings, 'events' | 'mappings'>,
  shared: { readonly admit: Admit; readonly counters: Counters; readonly clock: Clock },
): { readonly methods: readonly UnaryMethod[]; readonly routes: readonly HttpRoute[] } {
  const presets = [...new Set([...PRESET_NAMES, ...mappings.map(({ name }) => name)])];
  const signatures = new Map<string, SignatureSettings>();
  for (const [preset, { secret, scheme, toleranceMs }] of Object.entries(events)) {
    if (!presets.includes(preset)) {
      throw new AppError(
        'config',
        `events.${preset}: there is no such preset or mapping; there are ${presets.join(', ')}`,
      );
    }
    signatures.set(preset, { secrets: secret, scheme, toleranceMs });
  }
  const access = createAccessService(shared);
  return { methods: [access.method], routes: [access.route, createEventsRoute({ ...shared, presets, signatures })] };
}
