import type { LogRecord } from '../core/evidence.ts';
import { textOf } from './attributes.ts';
import { fieldsOf } from './log-fields.ts';
import type { Candidates } from './mappings/candidates.ts';
import { applyMappings, type Mapped, PRESET_KEY } from './mappings/compile.ts';
import { type Subject, subjectOf } from './mappings/document.ts';
import { eventNameOf } from './rules.ts';

/** Mappings made ready for use. */
export interface EventMappings extends Candidates {
  readonly candidatesFor: (subject: Subject) => Candidates;
  readonly isAccessEvent: (eventName: string) => boolean;
}

/** A log record with its fields in the record's own names. */
export interface LogEvent {
  readonly evidence: LogRecord;
  readonly mapped?: Mapped;
  /** The preset that the sender named and that the record does not fit. */
  readonly unfit?: string;
}

const known = new WeakMap<EventMappings, WeakMap<LogRecord, LogEvent>>();

/** Reads a log record through the mappings, once. What its sender put into attributes by the record's names stays where no mapping says otherwise. */
export function logEventOf(log: LogRecord, mappings: EventMappings): LogEvent {
  let events = known.get(mappings);
  if (events === undefined) {
    events = new WeakMap();
    known.set(mappings, events);
  }
  let event = events.get(log);
  if (event === undefined) {
    event = mapLogEvent(log, mappings);
    events.set(log, event);
  }
  return event;
}

/** The same for what is looked at once: to remember it would cost more. */
export function mapLogEvent(log: LogRecord, mappings: EventMappings): LogEvent {
  const asked = textOf(log.attributes, [PRESET_KEY]);
  const subject = subjectOf(log);
  const { own, presets } = mappings.candidatesFor(subject);
  const first = applyMappings(own, subject, asked);
  if (first !== undefined) return { evidence: withFields(log, first), mapped: first };
  const attributes = asked === undefined ? fieldsOf(log) : log.attributes;
  const evidence = attributes === log.attributes ? log : { ...log, attributes };
  if (asked === undefined && isExplicit(evidence, mappings)) return { evidence };
  const mapped = applyMappings(presets, subject, asked);
  if (mapped !== undefined) return { evidence: withFields(log, mapped), mapped };
  return asked === undefined ? { evidence } : { evidence, unfit: asked };
}

/** Does the record state an access in the record's own names? `audit.check.*` is about a check, not an access. */
export function isExplicit(log: LogRecord, { isAccessEvent }: Pick<EventMappings, 'isAccessEvent'>): boolean {
  const eventName = eventNameOf(log);
  if (eventName !== undefined && isAccessEvent(eventName)) return true;
  for (const name of log.attributes.keys()) {
    if (name.startsWith('audit.') && !name.startsWith('audit.check.')) return true;
  }
  return false;
}

/** Times belong together: those of the mapping are not mixed with what happens to be among the attributes. */
const TIMES = ['@timestamp', 'event.start', 'event.end', 'event.duration'];

function withFields(log: LogRecord, { fields }: Mapped): LogRecord {
  const attributes = new Map(log.attributes);
  for (const name of TIMES) attributes.delete(name);
  for (const [name, value] of fields) attributes.set(name, value);
  return { ...log, attributes };
}
