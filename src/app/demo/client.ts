import type { AlertsAnswer } from '../../api/alert-contract.ts';
import type { RecordsAnswer } from '../../api/contract.ts';
import type { Alert } from '../../core/alert.ts';
import { AppError } from '../../core/errors.ts';
import type { AuditRecord } from '../../core/record.ts';

/** What the demo asks of Spantrail's HTTP API. */
export interface Client {
  search(selection: { q: string; from: string; inner: boolean }): Promise<readonly AuditRecord[]>;
  /** With accesses since. */
  alerts(selection: { from: string; namespace: string }): Promise<readonly Alert[]>;
  /** Calls `visit` with each entry as it is recorded; rejects when the server ends the stream. */
  follow(visit: (record: AuditRecord) => void): Promise<never>;
}

const PAGE_RECORDS = 200;

/** An index of Elasticsearch that was made a moment ago cannot be searched yet. Whoever asks will ask again. */
const NOT_YET = 503;

export function createClient(url: string, signal: AbortSignal): Client {
  return {
    async search({ q, from, inner }) {
      const parameters = new URLSearchParams({ q, from, inner: String(inner), limit: String(PAGE_RECORDS) });
      const response = await fetch(`${url}/api/v1/records?${parameters}`, { signal });
      if (response.status === NOT_YET) return [];
      if (!response.ok) throw new AppError('internal', `${q}: ${await response.text()}`);
      const { records } = (await response.json()) as RecordsAnswer;
      return records;
    },
    async alerts({ from, namespace }) {
      const parameters = new URLSearchParams({ from, namespace, limit: String(PAGE_RECORDS) });
      const response = await fetch(`${url}/api/v1/alerts?${parameters}`, { signal });
      if (response.status === NOT_YET) return [];
      if (!response.ok) throw new AppError('internal', `alerts: ${await response.text()}`);
      const { alerts } = (await response.json()) as AlertsAnswer;
      return alerts;
    },
    async follow(visit) {
      try {
        const { body } = await fetch(`${url}/api/v1/tail`, { signal });
        let text = '';
        for await (const chunk of (body ?? new ReadableStream()).pipeThrough(new TextDecoderStream())) {
          const events = (text + chunk).split('\n\n');
          text = events.pop() ?? '';
          for (const event of events) {
            const [name, data] = event.split('\n');
            if (name === 'event: record' && data) visit(JSON.parse(data.slice('data: '.length)) as AuditRecord);
          }
        }
      } catch (cause) {
        throw new AppError('unavailable', 'Spantrail no longer answers', { cause });
      }
      throw new AppError('unavailable', 'Spantrail ended');
    },
  };
}
