import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { redactAddresses, redactErrorText } from '../../src/access/error-text.ts';

const S = 'Zq9secret';

describe('redactErrorText', () => {
  it.each([
    [
      `column "nope" does not exist\nLINE 1: SELECT nope FROM p WHERE n = '${S}'\n               ^`,
      'column "nope" does not exist',
    ],
    [`syntax error at or near "${S}"`, 'syntax error at or near "?"'],
    [`syntax error at or near "${S}"\nLINE 1: ...n = 'x' ${S}\n   ^\nHINT: none`, 'syntax error at or near "?"'],
    [`unterminated quoted string at or near "'a\n${S}"`, 'unterminated quoted string at or near "?"'],
    [`invalid input syntax for type integer: "a"${S}"`, 'invalid input syntax for type integer: "?"'],
    [`value "${S}" is out of range for type integer`, 'value "?" is out of range for type integer'],
    [`date/time field value out of range: "${S}"`, 'date/time field value out of range: "?"'],
    [
      `duplicate key: Key (lower(email))=(${S}) already exists.`,
      'duplicate key: Key (lower(email))=(?) already exists.',
    ],
    [`x\nDETAIL:  Failing row contains (1, ${S}\n, b).`, 'x\nDETAIL:  Failing row contains (?)'],
    [`x\nCONTEXT:  unnamed portal parameter $1 = '${S}'`, 'x\nCONTEXT: ?'],
    [`near "${S}": syntax error`, 'near "?": syntax error'],
    [`unrecognized token: "'${S}"`, 'unrecognized token: "?"'],
    [
      `E11000 duplicate key error collection: c.p index: email_1 dup key: { email: "${S}" }`,
      'E11000 duplicate key error collection: c.p index: email_1 dup key: { ? }',
    ],
    [`the right syntax to use near '${S} and 'b' at line 1`, "the right syntax to use near '?' at line 1"],
    [
      `Incorrect integer value: '${S}' for column 'age' at row 1`,
      "Incorrect integer value: '?' for column 'age' at row 1",
    ],
    [`Truncated incorrect DOUBLE value: '${S}'`, "Truncated incorrect DOUBLE value: '?'"],
    [`Duplicate entry '${S}' for key 'p.email'`, "Duplicate entry '?' for key 'p.email'"],
    [
      `Conversion failed when converting the varchar value '${S}' to data type int.`,
      "Conversion failed when converting the varchar value '?' to data type int.",
    ],
    [`Cannot insert. The duplicate key value is (${S}).`, 'Cannot insert. The duplicate key value is (?).'],
    [
      `could not execute statement [update p set a='${S}' where id=7] [n/a]`,
      'could not execute statement [update p set a=? where id=?] [n/a]',
    ],
    [`insert into \`p\` (\`n\`) values ('${S}') - Unknown column`, 'insert into `p` (`n`) values (?) - Unknown column'],
    [
      `SQLSTATE[42S22]: Column not found (Connection: mysql, SQL: select * from p where n = ${S})`,
      'SQLSTATE[42S22]: Column not found (SQL: ?)',
    ],
    [`Failed query: select $1\nparams: ${S},7`, 'Failed query: select $1\nparams: ?'],
    [
      `PG::UndefinedColumn: SELECT "p".* FROM "p" WHERE n = '${S}'`,
      'PG::UndefinedColumn: SELECT ?.* FROM ? WHERE n = ?',
    ],
    [`Unique violation: "P(EMAIL) VALUES ( /* 1 */ '${S}' )"`, 'Unique violation: "P(EMAIL) VALUES (?)"'],
  ])('%s', (given, want) => expect(redactErrorText(given)).toBe(want));

  it.each([
    'permission denied for table "orders"',
    'relation "x" does not exist',
    'role "svc" does not exist',
    'password authentication failed for user "svc"',
    "Access denied for user 'svc'@'10.0.0.1' (using password: YES)",
    "SELECT command denied to user 'app'@'localhost' for table 'orders'",
    "The SELECT permission was denied on the object 'orders', database 'shop', schema 'dbo'.",
    'update or delete on table "p" violates foreign key constraint "f" on table "q"',
    "EACCES: permission denied, open '/etc/shadow'",
    'timeout after 30 s',
  ])('keeps %s', (text) => expect(redactErrorText(text)).toBe(text));

  it('keeps the frames of a stack', () => {
    const python = `Traceback (most recent call last):\n  File "/app/x.py", line 12, in handler\n    run(sql)\npsycopg.errors.UndefinedColumn: column "nope" does not exist\nLINE 1: SELECT nope FROM p WHERE n = '${S}'\n               ^\n\nTraceback (most recent call last):\n  File "/app/y.py", line 9, in main`;
    expect(redactErrorText(python, '', true)).toBe(
      'Traceback (most recent call last):\n  File "/app/x.py", line 12, in handler\n    run(sql)\npsycopg.errors.UndefinedColumn: column "nope" does not exist\n\nTraceback (most recent call last):\n  File "/app/y.py", line 9, in main',
    );
    const java = `X: could not execute [update p set a='${S}']\n\tat a.B.c(B.java:12)\nCaused by: Y\n\tat d.E.f(E.java:7)`;
    expect(redactErrorText(java, '', true)).toBe(java.replace(`'${S}'`, '?'));
  });

  it('lets no literal of a statement through, and says the same when asked again', () => {
    const filler = fc.stringMatching(/^[a-zA-Z =(),;.:[\]{}"-]{0,16}$/);
    const statement = fc.constantFrom(
      'SELECT a FROM p WHERE n =',
      'update p set n =',
      'INSERT INTO p VALUES (',
      '\nLINE 1:',
    );
    fc.assert(
      fc.property(filler, statement, filler, fc.boolean(), (before, sql, after, isStack) => {
        const once = redactErrorText(`${before} ${sql} '${S}' ${after}`, '', isStack);
        expect(once).not.toContain(S);
        expect(redactErrorText(once, '', isStack)).toBe(once);
      }),
    );
  });
});

const isSecret = (name: string): boolean => /token|key/.test(name);

it.each([
  [
    `401 Client Error for url: http://be/patients/7?api_key=${S}&page=2&token=${S}`,
    '401 Client Error for url: http://be/patients/7?api_key=***&page=2&token=***',
  ],
  [`GET "/a?token=${S}" failed`, 'GET "/a?token=***" failed'],
  [`see http://x/#access_token=${S}`, 'see http://x/#access_token=***'],
  [`cannot reach postgresql://svc:${S}@db:5432/clinic?a=b`, 'cannot reach postgresql://svc:***@db:5432/clinic?a=b'],
  ['where n=? and token=?', 'where n=? and token=?'],
  ['http://be:8080/a@b', 'http://be:8080/a@b'],
])('redactAddresses(%s)', (text, want) => expect(redactAddresses(text, isSecret)).toBe(want));
