/** The host's apt options without which its mirrors cannot be reached, or their lists not be read. */
import { check } from '../exec/run.ts';

/** Proxies, certificates, clocks and patience; nothing that names a program of the host (Proxy-Auto-Detect). */
const needed = [
  /^Acquire::(?:http|https|ftp)::Proxy(?:::[^:]+)?$/i,
  /^Acquire::(?:http|https)::(?:CAInfo|CAPath|Verify-Peer|Verify-Host|Pipeline-Depth)$/i,
  /^Acquire::(?:Check-Valid-Until|Check-Date|Max-FutureTime|Retries|ForceIPv4|ForceIPv6)$/i,
  /^Acquire::(?:http|https)::Timeout$/i,
  /^Acquire::AllowInsecureRepositories$/i,
];

/** As mmdebstrap's --aptopt and apt.conf take them: `Acquire::Check-Date "false"`. */
export async function hostAptOptions(signal: AbortSignal): Promise<string[]> {
  return neededOptions((await check(['/usr/bin/apt-config', 'dump'], { signal })).stdout);
}

/** @param dump the output of `apt-config dump`: `Key "value";` by line */
export function neededOptions(dump: string): string[] {
  return dump.split('\n').flatMap((line) => {
    const [, key = '', value = ''] = /^(\S+) "(.*)";$/.exec(line) ?? [];
    const isSet = value !== '' && !(key.endsWith('AllowInsecureRepositories') && ['0', 'false', 'no'].includes(value));
    return isSet && needed.some((pattern) => pattern.test(key)) ? [`${key} "${value}"`] : [];
  });
}

/** Files of the host that the options name, which an image must have at the same place. */
export function namedFiles(options: readonly string[]): string[] {
  return options.flatMap((option) => /^Acquire::https?::CAInfo "(\/.*)"$/i.exec(option)?.[1] ?? []);
}
