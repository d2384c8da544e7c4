/** How often workers tell of themselves and look after each other, from one setting. All in milliseconds. */

export interface CoordinatorTimes {
  /** Between two sweeps, and between two attempts to become the coordinator. */
  readonly every: number;
  /** That the coordinator's key lives without renewal. */
  readonly ttl: number;
  /** For which a heartbeat must be seen to be missing, once it counts no more. */
  readonly deadAfter: number;
  /** For which a lock must be seen to be missing: a living owner renews it sooner (renewal.ts). */
  readonly unlockedAfter: number;
  /** Between two looks for what is too old to be kept. */
  readonly forgetEvery: number;
}

export interface FleetTimes extends CoordinatorTimes {
  readonly beat: number;
  /** For which a heartbeat counts. */
  readonly alive: number;
  /** That the right to write an image lives without renewal. */
  readonly lease: number;
}

/** With 10 s a dead worker's jobs are back after 35 to 50 s. @param heartbeat seconds */
export function fleetTimes(heartbeat = 10): FleetTimes {
  const beat = heartbeat * 1000;
  return {
    beat,
    alive: 3 * beat,
    lease: 6 * beat,
    every: beat / 2,
    ttl: 1.5 * beat,
    deadAfter: beat,
    unlockedAfter: 90_000,
    forgetEvery: 600_000,
  };
}
