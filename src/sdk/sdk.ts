/** What `spantrail/sdk` gives to services. */
export { type AccessEvent, recordAccess } from './record-access.ts';
export { startTelemetry, type Telemetry, type TelemetryOptions } from './telemetry.ts';
export { type Actor, setUser, type User } from './user.ts';
export { expressUser, fastifyUser } from './user-middleware.ts';
