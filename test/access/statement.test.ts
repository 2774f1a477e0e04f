import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readStatement } from '../../src/access/statement.ts';

describe('readStatement', () => {
  it.each([
    [
      'quotes and schema',
      'postgresql',
      `SELECT * FROM "public"."Orders" o WHERE n = 'it''s'`,
      'SELECT',
      'Orders',
      `SELECT * FROM "public"."Orders" o WHERE n = ?`,
    ],
    [
      'lists, numbers, parameters, casts',
      'postgresql',
      'select * from Orders where a in (1, 2,3) and b=$1 and c::int = -5.2e3',
      'SELECT',
      'orders',
      'select * from Orders where a in (?) and b=$1 and c::int = -?',
    ],
    [
      'comments of sqlcommenter',
      'postgresql',
      "SELECT 1 /*traceparent='00-ab'*/ -- bye",
      'SELECT',
      undefined,
      'SELECT ?',
    ],
    [
      'dollar quotes, names that WITH defines',
      'postgresql',
      'WITH r AS (SELECT * FROM orders WHERE x=$a$ se$$cret $a$) SELECT * FROM r',
      'SELECT',
      'orders',
      'WITH r AS (SELECT * FROM orders WHERE x=?) SELECT * FROM r',
    ],
    [
      'the main verb after WITH',
      'postgresql',
      'WITH a(x) AS (SELECT 1) INSERT INTO shop.items (a,b) VALUES (1,2),(3,4)',
      'INSERT',
      'shop.items',
      'WITH a(x) AS (SELECT ?) INSERT INTO shop.items (a,b) VALUES (?)',
    ],
    [
      'a literal cut off',
      'postgresql',
      "DELETE FROM orders WHERE id='sec",
      'DELETE',
      'orders',
      'DELETE FROM orders WHERE id=?',
    ],
    ['escape strings', 'postgresql', `SELECT E'it\\'s', U&'d' FROM t`, 'SELECT', 't', 'SELECT ? FROM t'],
    [
      'a backslash is a letter',
      'postgresql',
      `SELECT 'C:\\' AS a, 'x' FROM t`,
      'SELECT',
      't',
      'SELECT ? AS a, ? FROM t',
    ],
    [
      'MySQL quotes',
      'mysql',
      'SELECT `a` FROM `shop`.`orders` WHERE x="se\\"cret" AND y=\'it\\\'s\' # c',
      'SELECT',
      'shop.orders',
      'SELECT `a` FROM `shop`.`orders` WHERE x=? AND y=?',
    ],
    [
      'nobody knows the dialect',
      'other_sql',
      `SELECT a FROM t WHERE b='it\\'s secret' AND c="d"`,
      'SELECT',
      't',
      'SELECT a FROM t WHERE b=?',
    ],
    [
      'brackets',
      'mssql',
      "UPDATE [dbo].[my table] SET a = N'x'",
      'UPDATE',
      'my table',
      'UPDATE [dbo].[my table] SET a = ?',
    ],
    [
      'Oracle quoting',
      'oracle',
      "MERGE INTO t USING dual ON (q'[it's]' = q'!a'b!')",
      'MERGE',
      't',
      'MERGE INTO t USING dual ON (? = ?)',
    ],
    [
      'FROM inside functions',
      'postgresql',
      'SELECT EXTRACT(year FROM d), (SELECT count(*) FROM a) FROM b WHERE x IS DISTINCT FROM y',
      'SELECT',
      'b',
      undefined,
    ],
    [
      'a function as table',
      'postgresql',
      'SELECT * FROM generate_series(1,10) g JOIN orders ON true',
      'SELECT',
      'orders',
      undefined,
    ],
    ['a subselect', 'postgresql', 'SELECT * FROM (SELECT * FROM inner_table) x', 'SELECT', 'inner_table', undefined],
    ['grants', 'postgresql', 'GRANT SELECT ON TABLE orders TO bob', 'GRANT', 'orders', undefined],
    ['indexes', 'postgresql', 'CREATE UNIQUE INDEX IF NOT EXISTS i ON orders (a)', 'CREATE', 'orders', undefined],
    ['truncation', 'postgresql', 'TRUNCATE TABLE ONLY orders', 'TRUNCATE', 'orders', undefined],
    ['a verb between parentheses', 'sqlite', '(SELECT a FROM t) UNION (SELECT b FROM u)', 'SELECT', 't', undefined],
    ['commands of Redis', 'redis', 'SET session:abc secret', 'SET', undefined, 'SET ?'],
    [
      'JSON',
      'mongodb',
      '{"find":"p","filter":{"name":"alice","n":7}}',
      undefined,
      undefined,
      '{"find":"?","filter":{"name":"?","n":?}}',
    ],
    ['nothing', 'postgresql', '', undefined, undefined, ''],
  ])('%s', (_, system, statement, operation, table, text) => {
    const read = readStatement(statement, system);
    expect([read.operation, read.table]).toEqual([operation, table]);
    if (text !== undefined) expect(read.text).toBe(text);
  });

  it('lets no literal through, whatever stands around it', () => {
    const secret = 'Zq9secret';
    const filler = fc.stringMatching(/^[a-z =(),;.-]{0,12}$/);
    const literal = fc.constantFrom(`'${secret}'`, `'x ''${secret}'`, `$$${secret}$$`, `E'\\'${secret}'`, `'${secret}`);
    fc.assert(
      fc.property(filler, literal, filler, (before, quoted, after) => {
        expect(readStatement(`SELECT ${before} ${quoted} ${after}`, 'postgresql').text).not.toContain(secret);
      }),
    );
  });

  it('reads plain literals as it reads all others', () => {
    const systems = fc.constantFrom('postgresql', 'mysql', 'mssql', 'oracle', 'unheard-of');
    const piece = fc.oneof(
      fc.constantFrom(
        "'x'",
        "''",
        "'it''s'",
        "'a, 1'",
        "'",
        '7',
        '1.5',
        '0x1f',
        '12abc',
        'n1',
        'E',
        'N',
        'q',
        '?',
        '5;',
      ),
      fc.constantFrom(
        ' ',
        ',',
        '(',
        ')',
        '=',
        '<',
        '.',
        ':',
        ';',
        '\n',
        '-',
        '/',
        '*',
        '|',
        'FROM ',
        'SELECT ',
        't',
        ' AND ',
      ),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 24 }), systems, (pieces, system) => {
        const statement = `SELECT a FROM t WHERE ${pieces.join('')}`;
        // With a comment anywhere each token is looked at.
        expect(readStatement(statement, system)).toEqual(readStatement(`${statement} /* */`, system));
      }),
      { numRuns: 2000 },
    );
  });

  it('takes any text', () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^(?:['"`\\$[\](){};.,#-]|[a-zé€ \n]|0x1|FROM |q'){0,30}$/),
        fc.constantFrom('postgresql', 'mysql', 'mssql', 'redis', ''),
        (text, system) => {
          expect(typeof readStatement(text, system).text).toBe('string');
        },
      ),
    );
  });
});
