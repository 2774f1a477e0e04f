import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FIELDS } from '../../src/core/fields.ts';
import { parseQuery } from '../../src/query/parse.ts';
import { printQuery } from '../../src/query/print.ts';
import { queryArbitrary, queryTextArbitrary } from '../conformance/queries.ts';

const NOW_MS = Date.parse('2026-11-22T12:00:00Z');

function parse(text: string) {
  return parseQuery(text, { nowMs: NOW_MS });
}

/** The canonical text of what was understood, or `column: message`. */
function understood(text: string): string {
  const result = parse(text);
  return result.ok ? printQuery(result.query) : `${result.column}: ${result.message}`;
}

describe('query text', () => {
  it.each([
    ['', '*'],
    ['  ', '*'],
    ['*', '*'],
    ['user.id:alice', 'user.id: "alice"'],
    ['user.id :\talice', 'user.id: "alice"'],
    ['"user.id": alice', 'user.id: "alice"'],
    ['user.id: "a \\"b\\" \\\\ *"', 'user.id: "a \\"b\\" \\\\ *"'],
    ['user.id: a\\ b\\*\\:\\(', 'user.id: "a b*:("'],
    ['user.id: "a\\nb"', 'user.id: "a\nb"'],
    ['user.id: a*b**c\\**', 'user.id: a*b*c\\**'],
    ['user.id: *', 'user.id: *'],
    ['user.id: **', 'user.id: *'],
    ['user.id: \\*', 'user.id: "*"'],
    ['user.id: (a or b and not c*)', 'user.id: "a" or (user.id: "b" and not user.id: c*)'],
    ['user.id: ((a or b) and c)', '(user.id: "a" or user.id: "b") and user.id: "c"'],
    ['not user.id: a and user.id: b or user.id: c', '(not user.id: "a" and user.id: "b") or user.id: "c"'],
    ['NOT (user.id: a AND user.id: b Or user.id: c)', 'not ((user.id: "a" and user.id: "b") or user.id: "c")'],
    ['not not user.id: a', 'not not user.id: "a"'],
    ['alice "shop orders" not GET', '"alice" and "shop orders" and not "GET"'],
    ['android notes orders', '"android" and "notes" and "orders"'],
    ['"and" or \\or', '"and" or "or"'],
    ['http.response.status_code>=500', 'http.response.status_code >= 500'],
    ['source.port: -1', 'source.port: -1'],
    ['event.duration < 1.5ms', 'event.duration < 1500000'],
    ['event.duration: (41ms or 2h)', 'event.duration: 41000000 or event.duration: 7200000000000'],
    ['audit.entry: true', 'audit.entry: true'],
    ['source.ip: 10.1.2.3/8', 'source.ip: 10.0.0.0/8'],
    ['source.ip: 2001:DB8::/32', 'source.ip: 2001:db8::/32'],
    ['source.ip: 2001:db8:0:0:0:0:0:1', 'source.ip: "2001:db8::1"'],
    ['10.0.0.0/8', 'source.ip: 10.0.0.0/8 or "10.0.0.0/8"'],
    ['@timestamp > now-15m', '@timestamp > 2026-11-22T11:45:00.000000000Z'],
    ['@timestamp <= now', '@timestamp <= 2026-11-22T12:00:00.000000000Z'],
    [
      '@timestamp: 2026-11-22',
      '@timestamp >= 2026-11-22T00:00:00.000000000Z and @timestamp < 2026-11-23T00:00:00.000000000Z',
    ],
    ['@timestamp > 2026-11-22', '@timestamp >= 2026-11-23T00:00:00.000000000Z'],
    ['@timestamp <= 2026-11-22T10:19Z', '@timestamp < 2026-11-22T10:20:00.000000000Z'],
    ['@timestamp < "2026-11-22T10:19:13.5+01:00"', '@timestamp < 2026-11-22T09:19:13.500000000Z'],
    ['@timestamp >= 1950-01-01', '@timestamp >= 1970-01-01T00:00:00.000000000Z'],
  ])('%j means %j', (text, wanted) => expect(understood(text)).toBe(wanted));

  it.each([
    ['usr.id: x', '1: there is no field "usr.id"; did you mean user.id?'],
    ['a and rolse: x', '7: there is no field "rolse"; did you mean user.roles?'],
    ['user.*: x', '1: a field name takes no *'],
    ['fe80::1', '1: there is no field "fe80"'],
    ['user.id: ', '10: a value for user.id is missing'],
    ['user.id: )', '10: a value for user.id is missing'],
    ['user.id: :x', null],
    ['user.id: not alice', '10: a value for user.id is missing before this not'],
    ['user.id: (alice or user.name: bob)', '20: this list holds values of user.id'],
    ['user.id: >= 5', '10: write user.id >= value'],
    ['user.id >= b', '12: user.id is of type keyword and has no order'],
    ['source.ip > 10.0.0.1', '13: source.ip is of type ip and has no order; use a network'],
    ['event.duration > 1*', '18: > takes one value'],
    ['user.id = alice', '9: there is no =; write field: value'],
    ['user.id != alice', '9: there is no ='],
    ['user.id=alice', '1: there is no ='],
    ['a=b', null],
    ['(a', '1: the ( that opens here is never closed'],
    ['a and  ( b', '8: the ( that opens here is never closed'],
    ['a)', '2: this ) closes nothing'],
    ['()', '2: a condition such as user.id: alice is missing'],
    [':', '1: a condition'],
    ['and', '1: a condition such as user.id: alice is missing before this and; quote "and"'],
    ['a or', '5: a condition'],
    ['a not', '6: a condition'],
    ['user.id: "x', '10: the quote that opens here is never closed'],
    ['user.id: x\\', '11: a backslash at the end escapes nothing'],
    ['message: refus*', '10: message is searched by whole words; leave out the *'],
    ['source.ip: 10.*', '12: source.ip is of type ip and takes no *; use a network such as 10.0.0.0/8'],
    ['source.ip: 10.0.0', '12: source.ip takes an IP address or a network'],
    ['source.ip: 10.0.0.0/33', '12: source.ip takes'],
    ['event.duration: 5x', '17: event.duration takes a duration such as 41ms'],
    ['event.duration: 999999999999999h', '17: event.duration takes a duration'],
    ['source.port: 1.5', '14: source.port takes a whole number'],
    ['source.port: 99999999999999999999', '14: source.port takes a whole number'],
    ['audit.entry: yes', '14: audit.entry is true or false, not "yes"'],
    ['@timestamp: yesterday', '13: @timestamp takes a time such as 2026-11-22'],
    ['@timestamp: 2026-13-01', '13: @timestamp takes a time'],
    ['@timestamp: now-x', '13: @timestamp takes a time'],
  ])('%j is refused with %j', (text, wanted) => {
    if (wanted === null) expect(understood(text)).not.toMatch(/^\d+: /);
    else expect(understood(text).slice(0, wanted.length)).toBe(wanted);
  });

  it.each([
    ['parentheses', '('.repeat(100), '66: more than 64 levels'],
    ['negations', 'not '.repeat(100), '261: more than 64 levels'],
    ['words', 'a '.repeat(40), '65: more than 32 words'],
    ['characters', 'a'.repeat(9000), '8193: the query is longer than 8192'],
    ['values', `user.id: (${'a or '.repeat(300)}a)`, '1293: the query has more than 256 conditions'],
  ])('too many %s are refused', (_, text, wanted) => expect(understood(text).slice(0, wanted.length)).toBe(wanted));

  it('parses what it prints back to the same query', () => {
    fc.assert(
      fc.property(queryArbitrary, (query) => {
        const result = parse(printQuery(query));
        expect(result).toEqual({ ok: true, query });
      }),
      { numRuns: 1000 },
    );
  });

  it('leaves canonical text as it is', () => {
    fc.assert(
      fc.property(queryTextArbitrary, (text) => {
        expect(understood(text)).toBe(text);
      }),
    );
  });

  const fragments = fc.constantFrom(
    ...[
      '(',
      ')',
      ':',
      '"',
      '\\',
      '*',
      ' ',
      '<',
      '>=',
      'and',
      'or ',
      'not ',
      'now',
      '-15m',
      '10.0.0.0/8',
      '\ud800',
      'é',
      '=',
    ],
    ...FIELDS.slice(0, 30).map((field) => field.name),
  );
  it('never throws, and points into the text', () => {
    const garbage = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(fragments, { maxLength: 30 }).map((all) => all.join('')),
    );
    fc.assert(
      fc.property(garbage, (text) => {
        const result = parse(text);
        if (result.ok) {
          const printed = printQuery(result.query);
          expect(understood(printed)).toBe(printed);
        } else {
          expect(result.message).not.toBe('');
          expect(result.column).toBeGreaterThanOrEqual(1);
          expect(result.column).toBeLessThanOrEqual(text.length + 1);
        }
      }),
      { numRuns: 5000 },
    );
  });
});
