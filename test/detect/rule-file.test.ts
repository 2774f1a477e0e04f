import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { expandDefinitions } from '../../src/detect/definitions.ts';
import { compileHours, parseHours } from '../../src/detect/hours.ts';
import { compileQuery } from '../../src/detect/predicate.ts';
import { Reading } from '../../src/detect/reading.ts';
import { describeProblem, parseRuleFile } from '../../src/detect/rule-file.ts';
import { evaluate } from '../../src/query/evaluate.ts';
import { queryArbitrary, recordArbitrary } from '../conformance/queries.ts';
import { rulesOf } from './world.ts';

const RULE = `- id: one
  name: One
  type: threshold
  severity: low
  query: 'user.id: alice'
  group_by: user.id
  window: 5m
  threshold: { value: 3 }
`;

function problems(text: string, more: Partial<Parameters<typeof parseRuleFile>[2]> = {}): string[] {
  const context = {
    definitions: { sensitive: 'audit.target.id: patients/*', wrong: 'user.idd: x' },
    limits: { entriesMax: 1000 },
    ...more,
  };
  return parseRuleFile('r.yaml', text, context).problems.map(describeProblem);
}

/** RULE with one line in another's place. */
function changed(line: string, to: string): string {
  return RULE.split('\n')
    .map((one) => (one.trimStart().startsWith(line) ? `  ${to}` : one))
    .join('\n');
}

describe('a rule file', () => {
  it('is right as it is', () => expect(problems(RULE)).toEqual([]));

  it('may say once what several rules share', () => {
    const two = `${RULE.replace('- id', '- &shared\n  id')}- { <<: *shared, id: two, window: 1h }\n`;
    expect(problems(two)).toEqual([]);
    expect(rulesOf(two)).toMatchObject([{ windowMs: 300_000 }, { id: 'two', name: 'One', windowMs: 3_600_000 }]);
  });

  it.each([
    ['severity:', 'severity: hgh', 'r.yaml:4:13: rule one, severity: must be low, medium, high, critical'],
    ['type:', 'type: treshold', 'r.yaml:3:9: rule one, type: must be query, threshold, new_terms or baseline'],
    ['window:', 'windw: 5m', 'r.yaml:7:10: rule one, windw: there is no such field in a rule of this type'],
    ['window:', 'window: 5 minutes', 'r.yaml:7:11: rule one, window: must be a time such as 30s, 10m, 2h or 7d'],
    ['threshold:', 'threshold: { value: 0 }', 'r.yaml:8:23: rule one, threshold.value: must be at least 1'],
    [
      'threshold:',
      'threshold: {}',
      'r.yaml:8:14: rule one, threshold: needs either a value (matches) or cardinality (distinct values of a field), not both',
    ],
    [
      'query:',
      "query: 'user.idd: x'",
      'r.yaml:5:11: rule one, query: there is no field "user.idd"; did you mean user.id? Quote a value that holds a colon',
    ],
    ['query:', 'query: user.id.x', ''],
    ['query:', "query: ' '", 'r.yaml:5:10: rule one, query: a rule needs a query, as in search; "*" is every access'],
    ['window:', "window: 5m\n  then: ''", 'r.yaml:8:9: rule one, then: must be a query, as in search'],
    [
      'query:',
      "query: '$sensitve and user.id: x'",
      'r.yaml:5:11: rule one, query: $sensitve is not defined; there are $sensitive, $wrong. Quote "$sensitve" to mean the text',
    ],
    [
      'query:',
      "query: 'user.id: x and $wrong'",
      'r.yaml:5:26: rule one, query: in $wrong: there is no field "user.idd"; did you mean user.id? Quote a value that holds a colon',
    ],
    [
      'query:',
      "query: '$sensitive and user.idd: x'",
      'r.yaml:5:26: rule one, query: there is no field "user.idd"; did you mean user.id? Quote a value that holds a colon',
    ],
    [
      'query:',
      "query: '@timestamp > now-1h'",
      'r.yaml:5:10: rule one, query: a rule looks at each access when it comes: it cannot speak of now',
    ],
    ['group_by:', 'group_by: [user.id, user.idd]', 'r.yaml:6:13: rule one, group_by: there is no field "user.idd"'],
    ['name:', 'nam: x', 'r.yaml:1:3: rule one, name: a rule needs a name for people'],
    [
      'severity:',
      'severity: low\n  reason: "${user.idd}"',
      'r.yaml:5:11: rule one, reason: there is no field "user.idd"',
    ],
    [
      'severity:',
      'severity: low\n  hours: { outside: "Mon-Fry 8-9" }',
      'r.yaml:5:21: rule one, hours.outside: must be days and times such as "Mon-Fri 07:00-19:00", several with commas',
    ],
  ])('says where %s is wrong: %s', (line, to, expected) => {
    const found = problems(changed(line, to));
    if (expected === '') expect(found).toEqual([]);
    else expect(found).toContain(expected);
  });

  it.each([
    [
      'a threshold without a window',
      changed('window:', 'description: none'),
      'window',
      'every match would have to be kept for ever',
    ],
    [
      'values without a history',
      `- { id: a, name: A, type: new_terms, severity: low, query: '*', new_terms: { fields: user.id } }`,
      'new_terms.history',
      'every value ever seen',
    ],
    [
      'groups by what every access has its own of',
      changed('group_by:', 'group_by: trace.id'),
      'group_by',
      'or set groups_max',
    ],
    [
      'more matches than are kept',
      changed('threshold:', 'threshold: { value: 1001 }'),
      'threshold.value',
      'more than the 1000 matches',
    ],
    ['an alert for each further match', changed('window:', 'window: 5m\n  suppress: 0s'), 'suppress', 'at least 1s'],
  ])('refuses %s, with the reason', (_, text, field, words) => {
    expect(problems(text)).toEqual([expect.stringMatching(new RegExp(`, ${field}: .*${words}`))]);
  });

  it('takes a group of many values when it is capped', () => {
    expect(problems(changed('group_by:', 'group_by: trace.id\n  groups_max: 100'))).toEqual([]);
  });

  it('keeps the rules beside a broken one, and tells rules of one id', () => {
    const text = `${RULE}${RULE.replace('id: one', 'id: two').replace('low', 'nothing')}${RULE}`;
    const { rules, problems: found } = parseRuleFile('r.yaml', text, { definitions: {}, limits: { entriesMax: 10 } });
    expect(rules.map(({ id }) => id)).toEqual(['one']);
    expect(found.map(({ line, field }) => [line, field])).toEqual([
      [12, 'severity'],
      [17, 'id'],
    ]);
  });

  it('takes what the settings say instead, and says so when that is wrong', () => {
    const overrides = { one: { threshold: { value: 7 }, severity: 'critical' } };
    const context = { definitions: {}, limits: { entriesMax: 10 }, overrides };
    expect(parseRuleFile('r.yaml', RULE, context).rules).toMatchObject([
      { severity: 'critical', threshold: { value: 7 } },
    ]);
    const [wrong] = problems(RULE, { overrides: { one: { severity: 'x' } } });
    expect(wrong).toBe(
      'r.yaml:4:13: rule one, severity: must be low, medium, high, critical (as detect.rules.override.one has it)',
    );
    const other = { definitions: {}, limits: { entriesMax: 10 }, overrides: { one: { id: 'other' } } };
    expect(parseRuleFile('r.yaml', RULE, other)).toMatchObject({ rules: [{ id: 'one' }], problems: [{ field: 'id' }] });
  });

  it.each([
    ['nothing', '', []],
    ['no list', 'id: one', ['r.yaml:1:1: must be a list of rules, each beginning with "- id: …"']],
    ['no YAML', '- id: "one', [expect.stringContaining('r.yaml:1:11: Missing closing')]],
    [
      'a bomb',
      `- &a [x,x,x,x,x,x,x,x,x]\n- &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n- &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n- [*c,*c,*c,*c,*c,*c,*c]`,
      [expect.stringContaining('alias')],
    ],
    ['no rule', '- 7', [expect.stringContaining('r.yaml:1:3')]],
  ])('may hold %s', (_, text, expected) => expect(problems(text)).toEqual(expected));

  it('never throws', () => {
    const line = fc.constantFrom(
      ...RULE.split('\n'),
      '  threshold: [1]',
      '  query: "(("',
      '- - -',
      '  group_by: {}',
      '  then: 7',
      '\t',
      '  window: -5m',
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 12 }), (lines) => void problems(lines.join('\n'))),
      { numRuns: 300 },
    );
  });
});

describe('definitions', () => {
  it('stand in parentheses, not in quotes, inside of others, and lead back to their columns', () => {
    const definitions = { a: 'x or y', b: '$a and z' };
    const expanded = expandDefinitions('$b and "$a" and user.id: ($a)', definitions);
    if (!expanded.ok) throw new Error(expanded.message);
    expect(expanded.text).toBe('((x or y) and z) and "$a" and user.id: ((x or y))');
    expect(expanded.origin(3)).toEqual({ column: 1, definition: 'b' });
    expect(expanded.origin(expanded.text.indexOf('user.id') + 1)).toEqual({ column: 17 });
    expect(expandDefinitions('$c', { c: '$d', d: '$c' })).toMatchObject({ ok: false, column: 1 });
  });
});

describe('hours', () => {
  const outside = (text: string, timezone: string, day: string) => {
    const inside = parseHours(text);
    if (inside === undefined) throw new Error('no hours');
    return compileHours({ text, timezone, inside })(Date.parse(day));
  };
  it.each([
    // Clocks in Berlin go back on 25 October 2026.
    ['Mon-Fri 07:00-19:00', 'Europe/Berlin', '2026-10-23T05:00:00Z', false],
    ['Mon-Fri 07:00-19:00', 'Europe/Berlin', '2026-10-26T05:59:59Z', true],
    ['Mon-Fri 07:00-19:00', 'Europe/Berlin', '2026-10-26T06:00:00Z', false],
    ['Mon-Fri 07:00-19:00', 'Europe/Berlin', '2026-10-24T10:00:00Z', true],
    ['Mon-Fri 22:00-06:00', 'UTC', '2026-10-24T05:59:00Z', false],
    ['Sun 22:00-06:00', 'UTC', '2026-10-26T05:59:00Z', false],
    ['Sun 22:00-06:00', 'UTC', '2026-10-26T06:00:00Z', true],
    ['Sat-Mon, Wed 12:00-13:00', 'UTC', '2026-10-26T23:59:00Z', false],
    ['Sat-Mon, Wed 12:00-13:00', 'UTC', '2026-10-28T13:00:00Z', true],
  ])('%s in %s: %s is outside: %s', (text, timezone, day, expected) => {
    expect(outside(text, timezone, day)).toBe(expected);
  });
});

describe('a compiled query', () => {
  it('answers as the evaluator does', () => {
    const reading = new Reading();
    fc.assert(
      fc.property(queryArbitrary, recordArbitrary, (query, record) => {
        reading.start({ namespace: 'default', document: record });
        expect(compileQuery(query)(reading)).toBe(evaluate(query, record));
      }),
      { numRuns: 2000 },
    );
  });

  it('of a rule keeps its fingerprint through changes of words, and loses it by changes of meaning', () => {
    const [one] = rulesOf(RULE);
    const [other] = rulesOf(changed('name:', 'name: Other').replace('low', 'high'));
    const [third] = rulesOf(changed('window:', 'window: 6m'));
    expect(one?.fingerprint).toBe(other?.fingerprint);
    expect(one?.fingerprint).not.toBe(third?.fingerprint);
  });
});
