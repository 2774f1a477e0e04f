import { anyGlob } from '../access/glob.ts';
import type { Alert, Severity } from '../core/alert.ts';
import { isAtLeast } from './notice.ts';

export interface RouteSettings {
  readonly severity?: Severity | undefined;
  readonly rule?: readonly string[] | undefined;
  readonly tag?: readonly string[] | undefined;
  readonly namespace?: readonly string[] | undefined;
  readonly channels: readonly string[];
  readonly continue: boolean;
}

/** The channels that hear of an alert, each once. Names in a rule that are no channels are left out. */
export type Routing = (alert: Alert) => readonly string[];

export function compileRouting(routes: readonly RouteSettings[], channels: readonly string[]): Routing {
  const compiled = routes.map(({ severity, rule, tag, namespace, ...route }) => {
    const fits = [rule, tag, namespace].map((texts) => texts && anyGlob(texts));
    const [rules, tags, namespaces] = fits;
    return {
      ...route,
      fits: (alert: Alert) =>
        (severity === undefined || isAtLeast(alert.rule.severity, severity)) &&
        (rules === undefined || rules(alert.rule.id)) &&
        (tags === undefined || (alert.rule.tags ?? []).some(tags)) &&
        (namespaces === undefined || namespaces(alert.namespace)),
    };
  });
  return (alert) => {
    const told = new Set(routes.length === 0 ? channels : []);
    for (const route of compiled) {
      if (!route.fits(alert)) continue;
      for (const channel of route.channels) told.add(channel);
      if (!route.continue) break;
    }
    for (const channel of alert.rule.notify ?? []) told.add(channel);
    return channels.filter((channel) => told.has(channel));
  };
}
