import { describe, expect, it } from 'vitest';
import { fitsGlob, globOf } from '../../src/access/glob.ts';
import { foldPath, plainRoute, readRoute, redactQuery } from '../../src/access/route.ts';

const isSecret = (name: string) => name === 'token';

describe('readRoute', () => {
  it.each([
    ['/patients/{id}', '/patients/7', 'patients/7'],
    ['/patients/:id', '/patients/7', 'patients/7'],
    ['/patients/<int:id>', '/patients/7', 'patients/7'],
    ['/patients/{id:int}', '/patients/7/', 'patients/7'],
    ['^patients/(?P<id>[0-9]+)/$', '/patients/7/', 'patients/7'],
    ['/patients/:id(.:format)', '/patients/7', 'patients/7'],
    ['/patients/[id]', '/patients/7', 'patients/7'],
    ['/patients/:id?', '/patients', undefined],
    // Prefixes of the route, of a mount and of a proxy make no difference.
    ['/api/v1/patients/{id}', '/api/v1/patients/7', 'patients/7'],
    ['/patients/{id}', '/api/v1/patients/7', 'patients/7'],
    ['/api/patients/{id}', '/patients/7', 'patients/7'],
    // A view of the row is about the row; a nested row keeps what it is unique in.
    ['/patients/{id}/notes', '/patients/7/notes', 'patients/7'],
    ['/wards/{ward}/patients/{id}', '/wards/3/patients/7', 'wards/3/patients/7'],
    ['/{tenant}/patients/{id}', '/acme/patients/7', 'acme/patients/7'],
    ['/scans/{name}.dcm', '/scans/mri.dcm', 'scans/mri.dcm'],
    ['/files/{*path}', '/files/a/b.txt', 'files/a/b.txt'],
    ['/files/<path:rest>', '/app/files/a/b.txt', 'files/a/b.txt'],
    ['/jobs/{id}:cancel', '/jobs/7:cancel', 'jobs/7:cancel'],
    ['/files/{path...}', '/files/a/b.txt', 'files/a/b.txt'],
    ['/Patients/{id}', '/patients/7', 'patients/7'],
    // What takes all that is below it; folders like api say nothing.
    ['/patients/', '/patients/7', 'patients/7'],
    ['/patients/', '/clinic/patients/7/notes', 'patients/7/notes'],
    ['/patients/{id}/', '/patients/7/notes', 'patients/7'],
    ['/api/*', '/api/patients/7', 'patients/7'],
    ['/api/{proxy+}', '/api/v1/patients/7', 'patients/7'],
    ['/**', '/rest/v1.2/patients/7', 'patients/7'],
    ['/files/*', '/files/a', 'files/a'],
    // No row is known.
    ['/api/*', '/api/patients', undefined],
    ['/patients/', '/patients/', undefined],
    ['/patients/', '/doctors/7', undefined],
    ['/', '/patients/7', undefined],
    ['/patients', '/patients', undefined],
    ['/patients/{id}', '/doctors/7', undefined],
    ['/scans/{name}.dcm', '/scans/mri.png', undefined],
    ['', '/', undefined],
  ])('%s on %s', (route, path, row) => {
    expect(readRoute(route, path, isSecret)).toEqual(row === undefined ? { path } : { row, path });
  });

  it('takes secrets out of the path', () => {
    expect(readRoute('/reset/{token}', '/app/reset/abc', isSecret)).toEqual({ path: '/app/reset/***' });
  });
});

it.each([
  ['GET /patients/{id}', '/patients/{id}'],
  ['GET example.org/patients/{id}', '/patients/{id}'],
  ['/patients/{id}/(method:GET)', '/patients/{id}'],
  ['/(authenticate default)/patients/(header:a=b)/(method:GET)', '/patients'],
  ['GET /', '/'],
  ['^patients/([0-9]+)/$', '^patients/([0-9]+)/$'],
])('plainRoute(%s)', (route, plain) => expect(plainRoute(route)).toBe(plain));

it.each([
  ['/orders/4711/items', '/orders/{id}/items'],
  ['/u/6f9619ff-8b86-d011-b42d-00cf4fc964ff', '/u/{id}'],
  ['/c/deadbeefdeadbeef/', '/c/{id}/'],
  ['/m/alice@example.org', '/m/{id}'],
  ['/k/01ARZ3NDEKTSV4RRFFQ69G5FAV', '/k/{id}'],
  ['/api/v2/patients', '/api/v2/patients'],
  ['/scans/7.dcm', '/scans/{id}.dcm'],
  ['/assets/index-B4x9Kd2f1a2b3c4d5e6f.js', '/assets/index-B4x9Kd2f1a2b3c4d5e6f.js'],
  ['/3.14/x', '/3.14/x'],
])('foldPath(%s)', (path, folded) => expect(foldPath(path)).toBe(folded));

it.each([
  ['a=1&token=x&b', 'a=1&token=***&b'],
  ['?%74oken=x=y', '%74oken=***'],
  ['%zz=1', '%zz=1'],
  ['', ''],
])('redactQuery(%s)', (query, redacted) => expect(redactQuery(query, isSecret)).toBe(redacted));

it.each([
  ['a*', 'abc', true],
  ['*c', 'abc', true],
  ['a*b*c', 'aXbYc', true],
  ['a*a', 'a', false],
  ['*b*', 'abc', true],
  ['abc', 'abcd', false],
  ['*', '', true],
])('%s against %s', (pattern, text, fits) => expect(fitsGlob(globOf(pattern), text)).toBe(fits));
