import type { Settings } from '../config/schema.ts';
import { type Clock, systemScheduler } from '../core/clock.ts';
import type { FrameNote } from '../core/evidence.ts';
import type { Counters } from '../core/metrics.ts';
import type { AuditRecord } from '../core/record.ts';
import type { RecordWrite } from '../core/settlement.ts';
import { compileMask } from '../otlp/mask.ts';
import { scanMetrics } from '../otlp/scan.ts';
import { createTie } from '../otlp/tie.ts';
import { createInspect, type Inspect } from '../receive/inspect.ts';
import { nodeDisk } from '../wal/disk.ts';
import { openDatabaseSessions } from './database-sessions.ts';
import { openCredentials } from './identity.ts';
import { openPlaces } from './places.ts';
import { openPressure } from './pressure.ts';
import { createRedaction } from './redaction.ts';
import type { StageLog } from './stages.ts';

/** What requests and records get from beyond their own trace. */
export interface Sources {
  readonly inspect: Inspect;
  readonly tie: (payload: Buffer, note: FrameNote) => Buffer;
  readonly observeMetrics: (payload: Buffer, note: FrameNote) => void;
  readonly annotate: (writes: readonly RecordWrite[]) => void;
  /** Told of every batch once it is durable. */
  readonly learn: (writes: readonly RecordWrite[]) => void;
  close(): Promise<void>;
}

export interface SourcesOptions {
  readonly settings: Settings;
  /** The data folder. */
  readonly folder: string;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly log: StageLog;
}

/** Throws AppError('config') for a key set, a database of places or a network that cannot be used. */
export async function openSources(options: SourcesOptions): Promise<Sources> {
  const { settings, clock, counters, log } = options;
  const pressure = openPressure({ settings: settings.pressure, clock, counters });
  const places = await openPlaces({ ...settings.origin, counters, log });
  const redact = createRedaction(settings, counters);
  const credentials = await openCredentials(options);
  const learning = createLearning(credentials.learn, log);
  const testimony = await openDatabaseSessions({ ...options, disk: nodeDisk, scheduler: systemScheduler });
  return {
    ...plainSources(settings, counters),
    inspect: credentials.inspect,
    learn: learning.learn,
    tie: testimony.tie,
    observeMetrics: pressure.observe,
    annotate(writes) {
      places.annotate(writes);
      pressure.annotate(writes);
      for (const write of writes) {
        // No session has a form, and what has one was found to hold nothing that is redacted.
        if (write.form !== undefined) continue;
        const { record } = write;
        learning.remember(record);
        // Last: what the others need of a record is there.
        redact(record);
      }
    },
    close: async () => {
      places.close();
      await testimony.close();
      await credentials.close();
    },
  };
}

/**
 * Whose session it is is learnt once the record is durable, from what it said before redaction. A failure costs what that batch would
 * have taught.
 */
function createLearning(learn: (records: readonly AuditRecord[]) => void, log: StageLog) {
  const told = new WeakMap<AuditRecord, Pick<AuditRecord, 'session' | 'user'>>();
  return {
    remember(record: AuditRecord): void {
      const { session, user } = record;
      if (session) told.set(record, { session: { ...session }, ...(user && { user: { ...user } }) });
    },
    learn(writes: readonly RecordWrite[]): void {
      try {
        const taught: AuditRecord[] = [];
        for (const write of writes) {
          const said = write.json === undefined ? told.get(write.record) : undefined;
          if (said !== undefined) taught.push({ ...write.record, ...said });
        }
        learn(taught);
      } catch (error) {
        log.error({ error }, 'whose sessions these records name was not learnt');
      }
    },
  };
}

/** Masks secrets and adds nothing. */
export function plainSources({ receive }: Settings, counters: Counters): Sources {
  const mask = compileMask({ attributes: receive.maskAttributes, queryParameters: receive.maskQueryParameters });
  return {
    inspect: createInspect(mask),
    tie: createTie(),
    observeMetrics: (payload) => {
      const scanned = scanMetrics(payload);
      if (scanned.ok) counters.add('evidence', scanned.items, { signal: 'metrics', use: 'context' });
    },
    annotate: () => undefined,
    learn: () => undefined,
    close: async () => undefined,
  };
}
