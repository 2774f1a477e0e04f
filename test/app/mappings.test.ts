import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileMappings, misfit } from '../../src/access/mappings/compile.ts';
import { PRESET_NAMES } from '../../src/access/mappings/names.ts';
import { recogniseLog } from '../../src/access/recognise.ts';
import { compileRules } from '../../src/access/rules.ts';
import { mappingsOf } from '../../src/app/mappings.ts';
import { accessSettings } from '../../src/app/settling.ts';
import { testMapping } from '../../src/app/test-mapping.ts';
import { type Settings, settingsSchema } from '../../src/config/schema.ts';
import { log } from '../access/evidence.ts';

const FIXTURES = join(import.meta.dirname, '../fixtures/presets');
const NOW_NS = BigInt(Date.UTC(2026, 10, 20, 12)) * 1_000_000n;

const DOOR = {
  name: 'door',
  when: { type: 'badge', door: '*' },
  fields: { 'event.action': 'enter', 'user.id': '${who}', 'audit.target.id': '${door}' },
};

function settings(given: object): Settings {
  return settingsSchema.parse(given);
}

function tested(input: string, given: object = {}, preset?: string) {
  return testMapping(input, settings(given), { nowNs: NOW_NS, ...(preset && { preset }) });
}

function fixture(name: string): string {
  return readFileSync(join(FIXTURES, name), 'utf8').trimEnd();
}

describe('mappings of the settings', () => {
  it('are all presets unless some are named', () => {
    const sources = (given: object) => [...new Set(mappingsOf(settings(given)).presets.map(({ preset }) => preset))];
    expect(sources({})).toEqual([...PRESET_NAMES]);
    expect(sources({ presets: ['opa', 'hoop'] })).toEqual(['opa', 'hoop']);
    expect(sources({ presets: [] })).toEqual([]);
    expect(
      tested(fixture('opa.jsonl'), { presets: ['hoop'] }).samples.every(({ verdict }) => verdict === 'context'),
    ).toBe(true);
  });

  it('may be a preset with another form of its lines', () => {
    const ours = { name: 'ours', preset: 'pgaudit', parse: { as: 'postgres', prefixes: ['%m|%u|%d|'] } };
    const line =
      '2026-11-20 10:00:00.000 UTC|bob|shop|LOG:  AUDIT: SESSION,1,1,READ,SELECT,TABLE,public.orders,select 1,<none>';
    const { samples } = tested(line, { mappings: [ours] });
    expect(samples[0]).toMatchObject({ mapping: 'ours', fields: { 'user.id': 'bob', 'db.namespace': 'shop' } });
    const refused = line.replace(/LOG.*/, 'ERROR:  permission denied for table salaries');
    expect(tested(refused, { mappings: [ours] }).samples[0]).toMatchObject({
      mapping: 'ours.refusal',
      fields: { 'user.id': 'bob' },
    });
  });

  it.each([
    [{ presets: ['hop'] }, /presets: there is no preset "hop"; there are pgaudit, kubernetes/],
    [{ mappings: [{ ...DOOR, preset: 'hop' }] }, /mapping door, preset: there is no preset "hop"/],
    [{ mappings: [{ name: 'door', when: { a: '*' } }] }, /mapping door, fields: it gives no field a value/],
    [{ mappings: [{ ...DOOR, when: undefined }] }, /mapping door, when: it is empty/],
    [
      { mappings: [{ ...DOOR, fields: { 'user.di': 'x' } }] },
      /mapping door, fields\.user\.di: .* did you mean "user\.id"\?/,
    ],
  ])('say what is wrong: %j', (given, message) => {
    expect(() => compileRules(accessSettings(settings(given)))).toThrow(message);
  });

  it.each([
    [{ mappings: [{ ...DOOR, nmae: 'x' }] }, 'nmae'],
    [{ mappings: [{ ...DOOR, fields: { 'user.id': 7 } }] }, 'user.id'],
    [{ mappings: [{ ...DOOR, parse: { as: 'xml' } }] }, 'parse'],
  ])('have a schema: %j', (given, place) => {
    const result = settingsSchema.safeParse(given);
    expect(result.success ? '' : JSON.stringify(result.error.issues)).toContain(place);
  });
});

describe('config test-mapping', () => {
  it('tells of each sample what becomes of it', () => {
    const probe = { remote_addr: '10.0.0.1', request: 'GET /healthz HTTP/1.1', status: 200 };
    const event = {
      event: { name: 'patient.access', action: 'read' },
      audit: { target: { id: 'patients/7' } },
      user: { id: 'alice' },
    };
    const lines = [
      JSON.stringify({ type: 'badge', door: 'north', who: 'alice' }),
      JSON.stringify(probe),
      'text',
      JSON.stringify(event),
    ];
    const { samples, idle } = tested(lines.join('\n'), {
      mappings: [DOOR, { ...DOOR, name: 'idle', when: { kind: 'lift' } }],
    });
    expect(samples.map(({ at, verdict, mapping }) => [at, verdict, mapping])).toEqual([
      [1, 'access', 'door'],
      [2, 'excluded', 'nginx'],
      [3, 'context', undefined],
      [4, 'access', 'log.access'],
    ]);
    expect(samples.map(({ sentence }) => sentence)).toEqual([
      'alice did enter on north, outcome unknown',
      'left out by the rule "health check by path"',
      'no mapping took it',
      'alice read patients/7, outcome unknown',
    ]);
    expect(idle).toEqual([{ mapping: 'idle', because: 'it has no field "kind", which `when` wants to fit "lift"' }]);
  });

  it('takes lists apart, and lines that go on together', () => {
    const items = fixture('kubernetes.jsonl')
      .split('\n')
      .map((line) => JSON.parse(line) as object);
    const list = JSON.stringify({ kind: 'EventList', items }, null, 2);
    expect(tested(list).samples.map(({ mapping }) => mapping)).toEqual(items.map(() => 'kubernetes'));
    const statement =
      '2026-11-20 10:00:00 UTC [1] a@b LOG:  AUDIT: SESSION,1,1,READ,SELECT,,,"select *\n\tfrom orders\n\twhere x = \'1\'",<none>';
    const { samples } = tested(`${statement}\n2026-11-20 10:00:00 UTC [1] LOG:  done`);
    expect(samples).toHaveLength(2);
    expect(samples[0]?.fields['db.query.text']).toContain('from orders');
    expect(samples[0]?.sentence).toContain('b.orders');
  });

  it('reads every line by the preset that is asked for', () => {
    const { samples } = tested(`${fixture('hoop.jsonl')}\n{"a":1}`, {}, 'hoop');
    expect(samples.filter(({ verdict }) => verdict === 'access')).toHaveLength(7);
    expect(samples.at(-1)).toMatchObject({
      verdict: 'unfit',
      sentence: 'it names the preset "hoop" and does not fit it',
    });
    expect(() => tested('{}', {}, 'nobody')).toThrow('there is no preset or mapping "nobody"; there are pgaudit');
  });

  it('masks what is masked before it is stored', () => {
    const line = JSON.stringify({ type: 'badge', door: 'north', who: 'alice', password: 'planted-secret' });
    const mapping = { ...DOOR, fields: { ...DOOR.fields, 'event.reason': '${password}' } };
    expect(JSON.stringify(tested(line, { mappings: [mapping] }).samples[0]?.fields)).not.toContain('planted-secret');
  });
});

describe('what does not fit the preset it is sent to', () => {
  const compiled = compileMappings(mappingsOf(settings({})).presets);
  it('is told why', () => {
    const [line = ''] = fixture('kubernetes.jsonl').split('\n');
    const event = JSON.parse(line) as Record<string, unknown>;
    expect(misfit(compiled, 'kubernetes', event)).toBeUndefined();
    expect(misfit(compiled, 'kubernetes', { ...event, stage: 'RequestReceived' })).toBe(
      '"stage" is "RequestReceived", which does not fit "ResponseComplete" or "Panic"',
    );
    expect(misfit(compiled, 'opa', event)).toBe('it has no field "decision_id", which `when` wants to fit "*"');
  });
});

describe('whatever comes', () => {
  it('is read without an error', () => {
    const rules = compileRules(accessSettings(settings({ mappings: [DOOR] })));
    const files = ['pgaudit.log', 'pgaudit.csv', ...PRESET_NAMES.map((name) => `${name}.jsonl`)];
    const lines = files.flatMap((name) => fixture(name).split('\n'));
    const odd = fc.constantFrom(
      '',
      '"',
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      'null',
      '1e999',
      '\\u0000',
      '${x}',
      '__proto__',
      '-',
      '\ud800',
    );
    const cut = fc.tuple(fc.constantFrom(...lines), fc.nat(2000), fc.nat(60), odd);
    fc.assert(
      fc.property(cut, fc.boolean(), ([line, at, length, piece], asFields) => {
        const body = line.slice(0, at % (line.length + 1)) + piece + line.slice((at % (line.length + 1)) + length);
        let fields: Record<string, never> = {};
        if (asFields) {
          try {
            fields = JSON.parse(body) as Record<string, never>;
          } catch {}
        }
        const record = log(typeof fields === 'object' && fields !== null ? fields : {}, {
          body,
          traceId: '',
          spanId: '',
        });
        expect(['access', 'excluded', 'context']).toContain(recogniseLog(record, rules).kind);
      }),
      { numRuns: 2000 },
    );
  });
});
