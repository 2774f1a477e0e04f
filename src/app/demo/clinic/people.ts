/** Everyone who works in the clinic. The role is what the gateway vouches for and what the database grants to. */
export interface Person {
  readonly name: string;
  readonly role: 'nurse' | 'doctor' | 'clerk' | 'export';
  readonly password: string;
  /** Where the person works; the building's proxy tells it with x-forwarded-for. */
  readonly address: string;
}

export const PEOPLE: readonly Person[] = [
  { name: 'alice', role: 'nurse', password: 'tulip-41', address: '10.20.0.11' },
  { name: 'bela', role: 'nurse', password: 'anchor-7', address: '10.20.0.12' },
  { name: 'dora', role: 'doctor', password: 'violin-88', address: '10.20.0.21' },
  { name: 'carl', role: 'clerk', password: 'pencil-3', address: '10.20.0.31' },
  { name: 'insurance-export', role: 'export', password: 'k8-2f-19-c4', address: '10.20.9.5' },
];

/** What the gateway lets through and the records service answers. */
export const ROUTES = [
  ['GET', '/patients/:id'],
  ['GET', '/patients/:id/notes'],
  ['GET', '/patients/:id/history'],
  ['GET', '/patients/:id/labs'],
  ['PUT', '/patients/:id/ward'],
  ['GET', '/invoices'],
] as const;
