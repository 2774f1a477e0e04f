import type { Alert } from '../core/alert.ts';
import { compareText } from '../query/text.ts';
import { checkAlertLimit, decodeAlertCursor, encodeAlertCursor, groupKey, instantNs } from './alerts.ts';
import type { AlertGroup, AlertPage, AlertSelection, AlertStore, AlertWrite, StoredAlert } from './port.ts';

/** Alerts in a map: for tests, and what the other stores are compared with. */
export function createMemoryAlerts(): AlertStore {
  const kept = new Map<string, { readonly alert: Alert; readonly version: number }>();
  const select = (selection: AlertSelection) =>
    [...kept.values()]
      .map(({ alert }) => alert)
      .filter((alert) => fits(alert, selection))
      .sort(compareAlerts);
  return {
    async read(ids) {
      return ids.map((id): StoredAlert | undefined => {
        const found = kept.get(id);
        return found && { alert: structuredClone(found.alert), version: String(found.version) };
      });
    },
    async write(writes) {
      return writes.map(({ alert, version }: AlertWrite) => {
        const known = kept.get(alert.id)?.version;
        if (version !== (known === undefined ? undefined : String(known))) return false;
        kept.set(alert.id, { alert: structuredClone(alert), version: (known ?? 0) + 1 });
        return true;
      });
    },
    async search(selection, limit, cursor): Promise<AlertPage> {
      checkAlertLimit(limit);
      const after = cursor === undefined ? undefined : decodeAlertCursor(cursor);
      const rest = select(selection).filter((alert) => after === undefined || compareAlerts(alert, after) > 0);
      const alerts = structuredClone(rest.slice(0, limit));
      const last = alerts.at(-1);
      return last && rest.length > limit ? { alerts, next: encodeAlertCursor(last) } : { alerts };
    },
    async groups(selection, limit) {
      checkAlertLimit(limit);
      const groups = new Map<string, AlertGroup>();
      for (const alert of select(selection)) {
        const key = groupKey(alert);
        const { newest = structuredClone(alert), ...sums } = groups.get(key) ?? { alerts: 0, open: 0, count: 0 };
        groups.set(key, {
          key,
          newest,
          alerts: sums.alerts + 1,
          open: sums.open + (alert.state === 'open' ? 1 : 0),
          count: sums.count + alert.count,
        });
      }
      return [...groups.values()].slice(0, limit);
    },
  };
}

function compareAlerts(a: Pick<Alert, 'raisedAt' | 'id'>, b: Pick<Alert, 'raisedAt' | 'id'>): number {
  const [left, right] = [instantNs(a.raisedAt), instantNs(b.raisedAt)];
  return left === right ? compareText(a.id, b.id) : left < right ? 1 : -1;
}

function fits(alert: Alert, selection: AlertSelection): boolean {
  const { states, severities, rule, namespace, group, fromNs, toNs, records, traces } = selection;
  return (
    (states === undefined || states.includes(alert.state)) &&
    (severities === undefined || severities.includes(alert.rule.severity)) &&
    (rule === undefined || alert.rule.id === rule) &&
    (namespace === undefined || alert.namespace === namespace) &&
    (group === undefined || groupKey(alert) === group) &&
    (fromNs === undefined || instantNs(alert.lastAt) >= fromNs) &&
    (toNs === undefined || instantNs(alert.firstAt) < toNs) &&
    (records === undefined || records.some((id) => alert.records.includes(id))) &&
    (traces === undefined || traces.some((id) => alert.traces.includes(id)))
  );
}
