/**
 * What a worker's job needs to write an image: the right on its host first, then that in the fleet. In this order for all
 * of them, so nobody waits in a circle; and a job that waits for a person's update on its own host keeps no other host's
 * job from writing.
 */
import type { FenceSource } from './fence-source.ts';

export function bothLeases(host: FenceSource, fleet: FenceSource): FenceSource {
  return {
    async acquire(image, floor, signal) {
      const here = await host.acquire(image, floor, signal);
      try {
        // its fence is above all that the store knows, also what came while we waited; the fleet's must be, too
        const everywhere = await fleet.acquire(image, here.fence - 1, AbortSignal.any([signal, here.signal]));
        return {
          fence: everywhere.fence,
          signal: AbortSignal.any([here.signal, everywhere.signal]),
          async [Symbol.asyncDispose]() {
            try {
              await everywhere[Symbol.asyncDispose]();
            } finally {
              await here[Symbol.asyncDispose]();
            }
          },
        };
      } catch (error) {
        await here[Symbol.asyncDispose]();
        throw error;
      }
    },
  };
}
