/**
 * Tests against real servers need things that a machine may lack. By default they run when everything is already there and
 * are skipped, with a line that says how to have them, when it is not: `npm test` downloads and builds nothing by itself.
 * `SPANTRAIL_REQUIRE=elasticsearch,collector,browser,postgres,prometheus,packages` makes them mandatory: what is missing is fetched, and a server
 * that cannot be had is a failure.
 */
const REQUIREMENTS = ['elasticsearch', 'collector', 'browser', 'postgres', 'prometheus', 'packages'] as const;

export type RequirementName = (typeof REQUIREMENTS)[number];

/** Why something real could not be used, as one sentence that ends with what to do. */
export interface Skipped {
  readonly skipped: string;
}

export function requirement(name: RequirementName): 'required' | 'optional' {
  const listed = (process.env['SPANTRAIL_REQUIRE'] ?? '').split(',').filter((entry) => entry !== '');
  for (const entry of listed) {
    if (!(REQUIREMENTS as readonly string[]).includes(entry)) {
      throw new Error(`SPANTRAIL_REQUIRE names ${entry}; it knows ${REQUIREMENTS.join(', ')}`);
    }
  }
  // A database's log comes by a Collector: whoever has one for tests has both.
  if (name === 'postgres' && listed.includes('collector')) return 'required';
  return listed.includes(name) ? 'required' : 'optional';
}

/** The reason to skip when the requirement is optional; a failure when it is not. */
export function lacking(name: RequirementName, reason: string): Skipped {
  if (requirement(name) === 'required') throw new Error(`${name} is required, but ${reason}`);
  return { skipped: reason };
}
