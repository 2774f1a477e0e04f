/**
 * The presets by name, as settings, `POST /v1/events/{preset}`, the attribute `spantrail.preset` and the records' evidence call
 * them. What each reads: docs/presets.md.
 */
export const PRESET_NAMES = ['pgaudit', 'kubernetes', 'opa', 'cloudtrail', 'envoy', 'nginx', 'hoop', 'ecs'] as const;

export type PresetName = (typeof PRESET_NAMES)[number];
