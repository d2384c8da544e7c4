/** Values of the environment that are more than words. An empty one counts as none. */
import { ConfigError } from './config-error.ts';

/** @throws {ConfigError} */
export function wholeNumber(env: NodeJS.ProcessEnv, name: string): number | undefined {
  const text = env[name];
  if (!text) return undefined;
  if (!/^\d{1,9}$/.test(text)) throw new ConfigError(name, `${name}: expected a whole number, found "${text}"`);
  return Number(text);
}

/** @throws {ConfigError} */
export function flag(env: NodeJS.ProcessEnv, name: string): boolean | undefined {
  const text = env[name];
  if (!text) return undefined;
  if (text !== '0' && text !== '1') throw new ConfigError(name, `${name}: expected 0 or 1, found "${text}"`);
  return text === '1';
}
