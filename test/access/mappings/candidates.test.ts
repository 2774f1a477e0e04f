import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fieldsOf } from '../../../src/access/log-fields.ts';
import { isExplicit, logEventOf } from '../../../src/access/mapped-event.ts';
import { applyMappings, PRESET_KEY } from '../../../src/access/mappings/compile.ts';
import { subjectOf } from '../../../src/access/mappings/document.ts';
import { PRESET_NAMES } from '../../../src/access/mappings/names.ts';
import { ALL_PRESETS } from '../../../src/access/mappings/presets/presets.ts';
import { compileRules } from '../../../src/access/rules.ts';
import { DEFAULT_ACCESS_SETTINGS } from '../../../src/access/settings.ts';
import { AttributeTable } from '../../../src/core/attribute-table.ts';
import type { Attributes, AttributeValue, LogRecord } from '../../../src/core/evidence.ts';
import { log } from '../evidence.ts';

const FOLDER = join(import.meta.dirname, '../../fixtures/presets');
const LINES = ['pgaudit.log', 'pgaudit.csv', ...PRESET_NAMES.map((name) => `${name}.jsonl`)].flatMap((file) =>
  readFileSync(join(FOLDER, file), 'utf8').trimEnd().split('\n'),
);
const DOCUMENTS = LINES.filter((line) => line.startsWith('{')).map(
  (line) => JSON.parse(line) as Record<string, AttributeValue>,
);

/** One mapping of the user's, so that both lists are looked through. */
const RULES = compileRules({
  ...DEFAULT_ACCESS_SETTINGS,
  presets: ALL_PRESETS,
  mappings: [{ name: 'door', when: { 'badge.door': '*' }, fields: { 'user.id': '${badge.door}' } }],
});

const NAMES = [...new Set(DOCUMENTS.flatMap((document) => Object.keys(document)))];
const ODD: Record<string, AttributeValue> = { 'badge.door': 'east', 'log.logger': 'shop', [PRESET_KEY]: 'envoy' };

/** As the decoder makes them, or as tests do. */
function attributesOf(values: readonly (readonly [string, AttributeValue])[], isTable: boolean): Attributes {
  if (!isTable) return new Map(values);
  const table = new AttributeTable();
  for (const [name, value] of values) table.set(name, value);
  return table;
}

/** Fields of a real event, whole or in part, with some that no preset looks for. */
const fields = fc
  .tuple(
    fc.constantFrom(...DOCUMENTS),
    fc.subarray([...NAMES]),
    fc.subarray(Object.keys(ODD)),
    fc.integer({ max: 3, min: 0 }),
  )
  .map(([document, left, odd, how]) => {
    const own = Object.entries(document).filter(([name]) => how > 1 || left.includes(name));
    return how === 0 ? [] : [...own, ...odd.map((name): [string, AttributeValue] => [name, ODD[name] ?? ''])];
  });
const record = fc
  .record({
    ...{ own: fields, ofResource: fields, isTable: fc.boolean() },
    body: fc.oneof(
      fc.constant(undefined),
      fc.constantFrom('it is done', ...LINES),
      fields.map((values) => Object.fromEntries(values)),
    ),
  })
  .map(({ own, ofResource, isTable, body }): LogRecord => {
    const resource = { attributes: attributesOf(ofResource, isTable) };
    return { ...log({}, { body, resource, traceId: '', spanId: '' }), attributes: attributesOf(own, isTable) };
  });

describe('what the names of a log record tell', () => {
  it('rules out no mapping that fits', () => {
    const { mappings } = RULES;
    let mapped = 0;
    fc.assert(
      fc.property(record, (given) => {
        const asked = given.attributes.get(PRESET_KEY) as string | undefined;
        const own = applyMappings(mappings.own, subjectOf(given), asked);
        const isSaid = asked === undefined && isExplicit({ ...given, attributes: fieldsOf(given) }, mappings);
        const wanted = own ?? (isSaid ? undefined : applyMappings(mappings.presets, subjectOf(given), asked));
        if (wanted !== undefined) mapped += 1;
        expect(logEventOf(given, mappings).mapped).toEqual(wanted);
      }),
      { numRuns: 3_000 },
    );
    expect(mapped).toBeGreaterThan(300);
  });
});
