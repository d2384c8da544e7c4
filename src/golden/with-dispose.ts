/** Opening in layers: who opens a testbed for somebody else adds what has to happen at its end. */
import type { BackendTestbed } from '../backends/backend.ts';
import type { Testbed } from '../protocol/testbed.ts';

/** The same testbed with another end. `auxverb` is read through: it changes with each revert. */
export function withDispose(testbed: BackendTestbed, dispose: () => Promise<void>): Testbed {
  const { traits, rootOnHost } = testbed;
  const makeDirectory = testbed.makeDirectory?.bind(testbed);
  const openRoot = testbed.openRoot?.bind(testbed);
  const revert = testbed.revert?.bind(testbed);
  const reboot = testbed.reboot?.bind(testbed);
  return {
    get auxverb() {
      return testbed.auxverb;
    },
    traits,
    ...(rootOnHost === undefined ? {} : { rootOnHost }),
    ...(makeDirectory === undefined ? {} : { makeDirectory }),
    ...(openRoot === undefined ? {} : { openRoot }),
    ...(revert === undefined ? {} : { revert }),
    ...(reboot === undefined ? {} : { reboot }),
    [Symbol.asyncDispose]: dispose,
  };
}
