/** `node --import spantrail/sdk/register app.js`: telemetry by configuration alone, with the OTEL_* variables. */
import { startTelemetry } from './telemetry.ts';

startTelemetry();
