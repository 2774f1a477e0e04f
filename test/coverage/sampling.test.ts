import { describe, expect, it } from 'vitest';
import { hasRemoteParent, isUnsampled, samplingOf } from '../../src/coverage/sampling.ts';
import { TRACE_ID } from './evidence.ts';

const stated = (probability: number | undefined) => ({ kind: 'stated', probability });
const silent = { kind: 'silent' };

describe('what the trace state says of sampling', () => {
  // Thresholds and probabilities of the table in OpenTelemetry's "TraceState: Probability Sampling".
  it.each([
    ['ot=th:0', stated(1)],
    ['ot=th:8', stated(0.5)],
    ['ot=th:c', stated(0.25)],
    ['ot=th:e66', stated(0.10009765625)],
    ['ot=th:f', stated(0.0625)],
    ['ot=th:fd70a4', stated(0.009999990463256836)],
    ['ot=th:ffffffffffffff', stated(2 ** -56)],
    ['ot=th:C', stated(0.25)],
    ['vendor=x:1, ot=rv:ffffffffffffff;th:8 ,other=y', stated(0.5)],
    ['ot=p:3;r:5', stated(0.125)],
    ['ot=p:0', stated(1)],
    ['ot=p:63', stated(undefined)],
    // The threshold is the newer word.
    ['ot=p:3;th:8', stated(0.5)],
    // Below the threshold this span should have been left out.
    ['ot=th:8;rv:7fffffffffffff', stated(undefined)],
    ['ot=th:8;rv:80000000000000', stated(0.5)],
    // A randomness value of another length is none.
    ['ot=th:8;rv:7', stated(0.5)],
    ['', silent],
    ['ot=', silent],
    ['ot=rv:ffffffffffffff', silent],
    ['ot=th:', silent],
    ['ot=th:xyz', silent],
    ['ot=th:000000000000000', silent],
    ['ot=p:64', silent],
    ['ot=p:-1', silent],
    ['tenant@ot=th:8', silent],
    ['foot=th:8', silent],
    ['vendor=ot=th:8', silent],
    ['OT=TH:8', silent],
    ['ot=th:8,'.padEnd(8192, 'x'), stated(0.5)],
    ['ot=th:8,'.padEnd(8193, 'x'), silent],
  ])('%.40s', (traceState, word) => {
    expect(samplingOf({ traceState, traceId: TRACE_ID, flags: 0 })).toEqual(word);
  });

  it('takes the trace id for the randomness only when its flag says so', () => {
    // The last 14 digits begin with 4, which is below 8.
    const traceId = `${'0'.repeat(18)}40000000000000`;
    expect(samplingOf({ traceState: 'ot=th:8', traceId, flags: 1 })).toEqual(stated(0.5));
    expect(samplingOf({ traceState: 'ot=th:8', traceId, flags: 3 })).toEqual(stated(undefined));
    expect(samplingOf({ traceState: 'ot=th:4', traceId, flags: 3 })).toEqual(stated(0.75));
  });
});

describe('what the flags say', () => {
  it.each([
    [0x000, false],
    [0x001, false],
    [0x002, true],
    [0x003, false],
    // Exporters that fill in only whether the parent is remote say nothing of sampling.
    [0x100, false],
    [0x300, false],
    [0x302, true],
  ])('flags %i: decided against is %s', (flags, expected) => {
    expect(isUnsampled({ flags })).toBe(expected);
  });

  it.each([
    [0x100, 2, false],
    [0x300, 1, true],
    [0x200, 1, false],
    [0, 2, true],
    [0, 5, true],
    [0, 1, false],
    [0, 3, false],
    [0, 0, false],
  ])('flags %i and kind %i: a parent in another process is %s', (flags, kind, expected) => {
    expect(hasRemoteParent({ flags, kind })).toBe(expected);
  });
});
