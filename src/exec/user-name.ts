/** Who runs us, for people to read. */
import { userInfo } from 'node:os';

/** The login name; the number where /etc/passwd does not know it (in a container, say). */
export function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? 0);
  }
}
