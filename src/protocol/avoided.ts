/** Hosts on which a job failed, as its run's hash in Redis keeps them: a JSON list, in the order of failing. */

/** Empty for nothing, and for what another program has written. */
export function parseAvoided(text: string | null | undefined): string[] {
  try {
    const parsed: unknown = JSON.parse(text ?? '[]');
    return Array.isArray(parsed) ? parsed.filter((host) => typeof host === 'string') : [];
  } catch {
    return [];
  }
}
