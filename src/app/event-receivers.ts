import { compileMappings, misfit, presetMappings } from '../access/mappings/compile.ts';
import { PRESET_NAMES } from '../access/mappings/names.ts';
import type { Settings } from '../config/schema.ts';
import type { Clock } from '../core/clock.ts';
import { AppError } from '../core/errors.ts';
import type { Counters } from '../core/metrics.ts';
import { createAccessService } from '../receive/access-service.ts';
import type { Admit } from '../receive/admission.ts';
import { createEventsRoute } from '../receive/events-service.ts';
import type { SignatureSettings } from '../receive/events-signature.ts';
import type { UnaryMethod } from '../receive/grpc-call.ts';
import type { HttpRoute } from '../receive/http-reply.ts';
import { mappingsOf } from './mappings.ts';

/** The ways in beside OTLP: the access API and webhooks. Throws AppError('config') for secrets of a preset that is not there. */
export function openEventReceivers(
  { events, mappings, presets: inUse }: Pick<Settings, 'events' | 'mappings' | 'presets'>,
  shared: { readonly admit: Admit; readonly counters: Counters; readonly clock: Clock },
): { readonly methods: readonly UnaryMethod[]; readonly routes: readonly HttpRoute[] } {
  const own = mappings.map(({ name, preset = name }) => preset);
  const presets = [...new Set([...(inUse.includes('*') ? PRESET_NAMES : inUse), ...own])];
  const signatures = new Map<string, SignatureSettings>();
  for (const [preset, { secret, scheme, toleranceMs }] of Object.entries(events)) {
    if (!presets.includes(preset)) {
      throw new AppError(
        'config',
        `events.${preset}: no such preset or mapping is in use; there are ${presets.join(', ')}`,
      );
    }
    signatures.set(preset, { secrets: secret, scheme, toleranceMs });
  }
  const known = mappingsOf({ mappings, presets: inUse });
  const compiled = [...compileMappings(known.mappings), ...presetMappings(known.presets)];
  const access = createAccessService(shared);
  return {
    methods: [access.method],
    routes: [
      access.route,
      createEventsRoute({ ...shared, presets, signatures, misfit: (preset, item) => misfit(compiled, preset, item) }),
    ],
  };
}
