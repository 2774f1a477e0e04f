import type { Span } from '../core/evidence.ts';

/** What a span says about sampling. */
export type SamplingWord =
  | { readonly kind: 'silent' }
  /** `probability` above 0 to 1; undefined when what it states cannot be relied on. */
  | { readonly kind: 'stated'; readonly probability: number | undefined };

const SILENT: SamplingWord = { kind: 'silent' };
const UNRELIABLE: SamplingWord = { kind: 'stated', probability: undefined };

/** 2^56: thresholds and randomness have 56 bits, 14 hex digits (OpenTelemetry, TraceState handling). */
const VALUES = 2 ** 56;
const HEX_DIGITS = 14;

/** W3C Trace Context asks for 512 characters at least; a trace state beyond this is none that a sampler wrote. */
const STATE_CHARS_MAX = 8192;

/** W3C Trace Context level 2, trace flags; OTLP keeps them in bits 0 to 7 of the span's flags. */
const FLAG_SAMPLED = 0x01;
const FLAG_RANDOM = 0x02;

/** Bits 8 and 9 of OTLP's span flags (opentelemetry-proto, SpanFlags): is it known, and is the parent in another process? */
const FLAG_HAS_IS_REMOTE = 0x100;
const FLAG_IS_REMOTE = 0x200;

const KIND_SERVER = 2;
const KIND_CONSUMER = 5;

/**
 * The sampling that the `ot` entry of the span's trace state declares: `th` is the rejection threshold of OpenTelemetry's
 * consistent probability sampling, 1 to 14 hex digits to be padded with zeros on the right; the probability is
 * (2^56 - th) / 2^56, so `th:0` says that nothing is left out. Where `th` is absent, `p` of the earlier draft counts:
 * the probability is 2^-p. A span whose randomness (`rv`, or the trace id when its random flag is set) is below
 * the threshold should not be here: its threshold is inconsistent and says no more than that somebody samples.
 */
export function samplingOf(span: Pick<Span, 'traceState' | 'traceId' | 'flags'>): SamplingWord {
  if (span.traceState.length > STATE_CHARS_MAX || !span.traceState.includes('ot=')) return SILENT;
  if (last.traceState !== span.traceState) last = readState(span.traceState);
  const { word, threshold, explicit } = last;
  // A threshold of nothing leaves nothing out.
  if (threshold === undefined || threshold === 0n) return word;
  const randomness = explicit ?? (span.flags & FLAG_RANDOM ? hexOf(span.traceId.slice(-HEX_DIGITS)) : undefined);
  return randomness !== undefined && randomness < threshold ? UNRELIABLE : word;
}

/**
 * Was the trace decided against, although this span came? The sampled flag is off. Producers may leave the flags out,
 * so its absence means something only where another trace flag, the random one, shows that they were filled in.
 */
export function isUnsampled({ flags }: Pick<Span, 'flags'>): boolean {
  return (flags & FLAG_RANDOM) !== 0 && (flags & FLAG_SAMPLED) === 0;
}

/** Is the parent in another process? As the flags say; where they do not, a server or consumer was called from elsewhere. */
export function hasRemoteParent({ flags, kind }: Pick<Span, 'flags' | 'kind'>): boolean {
  if (flags & FLAG_HAS_IS_REMOTE) return (flags & FLAG_IS_REMOTE) !== 0;
  return kind === KIND_SERVER || kind === KIND_CONSUMER;
}

interface StateReading {
  readonly traceState: string;
  readonly word: SamplingWord;
  readonly threshold: bigint | undefined;
  readonly explicit: bigint | undefined;
}

/** The trace state that was read last: the spans of a trace share it, and most traces of a sender. */
let last: StateReading = { traceState: '', word: SILENT, threshold: undefined, explicit: undefined };

function readState(traceState: string): StateReading {
  const entry = entryOf(traceState);
  const threshold = hexOf(entry?.get('th'));
  if (threshold === undefined) {
    return { traceState, word: fromPower(entry?.get('p')), threshold, explicit: undefined };
  }
  const randomness = entry?.get('rv');
  const explicit = randomness?.length === HEX_DIGITS ? hexOf(randomness) : undefined;
  const word = { kind: 'stated', probability: Number(BigInt(VALUES) - threshold) / VALUES } as const;
  return { traceState, word, threshold, explicit };
}

/** The sub-keys of the `ot` entry: `ot=th:c;rv:…`, one of the comma-separated entries of the trace state. */
function entryOf(traceState: string): Map<string, string> | undefined {
  for (const member of traceState.split(',')) {
    const trimmed = member.trim();
    if (!trimmed.startsWith('ot=')) continue;
    const pairs = trimmed.slice(3).split(';');
    return new Map(pairs.map((pair) => [pair.slice(0, pair.indexOf(':')), pair.slice(pair.indexOf(':') + 1)]));
  }
  return undefined;
}

/** A value of up to 14 hex digits as a number of 14 digits; undefined when it is none. */
function hexOf(text: string | undefined): bigint | undefined {
  if (text === undefined || text.length > HEX_DIGITS || !/^[0-9a-fA-F]+$/.test(text)) return undefined;
  return BigInt(`0x${text.padEnd(HEX_DIGITS, '0')}`);
}

/** `p` from 0 to 62 stands for 2^-p; 63 stands for a span that represents none, as non-probability samplers wrote it. */
function fromPower(text: string | undefined): SamplingWord {
  if (text === undefined || !/^\d{1,2}$/.test(text) || Number(text) > 63) return SILENT;
  return Number(text) === 63 ? UNRELIABLE : { kind: 'stated', probability: 2 ** -Number(text) };
}
