import type { Mapping } from '../mapping.ts';
import type { PresetName } from '../names.ts';
import { CLOUDTRAIL } from './cloudtrail.ts';
import { ECS } from './ecs.ts';
import { HOOP } from './hoop.ts';
import { KUBERNETES } from './kubernetes.ts';
import { OPA } from './opa.ts';
import { PGAUDIT } from './postgres.ts';
import { ENVOY, NGINX } from './web.ts';

/** The mappings of each preset, in the order in which presets are tried: what could be taken for another comes later. */
export const PRESETS: Readonly<Record<PresetName, readonly Mapping[]>> = {
  pgaudit: PGAUDIT,
  kubernetes: KUBERNETES,
  opa: OPA,
  cloudtrail: CLOUDTRAIL,
  envoy: ENVOY,
  nginx: NGINX,
  hoop: HOOP,
  ecs: ECS,
};

export const ALL_PRESETS: readonly Mapping[] = Object.values(PRESETS).flat();
