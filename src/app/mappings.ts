import type { Mapping } from '../access/mappings/mapping.ts';
import { PRESET_NAMES, type PresetName } from '../access/mappings/names.ts';
import { PRESETS } from '../access/mappings/presets/presets.ts';
import type { Settings } from '../config/schema.ts';
import { AppError } from '../core/errors.ts';

function isPreset(name: string): name is PresetName {
  return PRESET_NAMES.some((known) => known === name);
}

function unknownPreset(place: string, name: string): never {
  throw new AppError('config', `${place}: there is no preset "${name}"; there are ${PRESET_NAMES.join(', ')}.`);
}

/** The mappings that the settings ask for: the user's own, and those of the presets in use. Throws AppError('config'). */
export function mappingsOf({ mappings, presets }: Pick<Settings, 'mappings' | 'presets'>): {
  readonly mappings: readonly Mapping[];
  readonly presets: readonly Mapping[];
} {
  const inUse = presets.includes('*') ? PRESET_NAMES : presets;
  const known = inUse.flatMap((name) => (isPreset(name) ? PRESETS[name] : unknownPreset('presets', name)));
  const own = mappings.flatMap(ownMapping);
  for (const { name } of own) {
    if (!known.some((preset) => preset.name === name)) continue;
    throw new AppError('config', `mapping ${name}, name: a preset that is in use has this name.`);
  }
  return { mappings: own, presets: known };
}

/** One mapping, or those of the preset whose reading it shares. */
function ownMapping(given: Settings['mappings'][number]): Mapping[] {
  const { name, preset, parse, when, fields } = given;
  const place = `mapping ${name}`;
  if (preset !== undefined && !isPreset(preset)) unknownPreset(`${place}, preset`, preset);
  if (fields !== undefined) return [{ ...defined(given), when: when ?? {}, fields: fields as Mapping['fields'] }];
  if (preset === undefined) throw new AppError('config', `${place}, fields: it gives no field a value.`);
  return PRESETS[preset].map((variant) => ({
    ...variant,
    name: variant.name === preset ? name : `${name}${variant.name.slice(preset.length)}`,
    ...(parse && { parse }),
    when: { ...variant.when, ...when },
    extract: [...(variant.extract ?? []), ...(defined(given).extract ?? [])],
  }));
}

/** Without what is left out, which optional settings hold as undefined. */
function defined(given: Settings['mappings'][number]): Omit<Mapping, 'when' | 'fields'> {
  const entries = Object.entries(given).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as unknown as Omit<Mapping, 'when' | 'fields'>;
}
