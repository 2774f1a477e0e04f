import { PGlite } from '@electric-sql/pglite';
import { PGLiteSocketServer } from '@electric-sql/pglite-socket';

/** Postgres in this process, on its own wire protocol. Who may do what is granted here and nowhere else. */
const SCHEMA = `
  CREATE TABLE patients (id int PRIMARY KEY, name text NOT NULL, ward int NOT NULL);
  CREATE TABLE notes (patient_id int REFERENCES patients, text text NOT NULL);
  CREATE TABLE visits (patient_id int REFERENCES patients, day date NOT NULL);
  CREATE TABLE invoices (patient_id int REFERENCES patients, cents int NOT NULL);
  INSERT INTO patients SELECT n, 'patient ' || n, 1 + n % 4 FROM generate_series(1, 60) AS n;
  INSERT INTO notes SELECT id, 'slept well' FROM patients;
  INSERT INTO visits SELECT id, date '2026-01-01' + id FROM patients;
  INSERT INTO invoices SELECT id, 100 * id FROM patients;
  CREATE ROLE nurse;
  CREATE ROLE doctor;
  CREATE ROLE clerk;
  CREATE ROLE export;
  CREATE ROLE board;
  GRANT SELECT ON patients TO nurse, doctor, clerk;
  GRANT SELECT (ward) ON patients TO board;
  GRANT UPDATE (ward) ON patients TO nurse, doctor;
  GRANT SELECT ON notes TO nurse, doctor;
  GRANT SELECT ON visits TO doctor;
  GRANT SELECT ON invoices TO clerk, export;`;

const database = await PGlite.create();
await database.exec(SCHEMA);
const server = new PGLiteSocketServer({ db: database, host: '127.0.0.1', port: 0, maxConnections: 10 });
await server.start();
process.once('disconnect', () => process.exit());
process.send?.({ url: `postgres://records@${server.getServerConn()}/clinic` });
