/** Who Spantrail says it is in its own telemetry. */
export function ownResource(version: string): Readonly<Record<string, string>> {
  return { 'service.name': 'spantrail', 'service.version': version };
}
