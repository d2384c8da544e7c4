/** How often workers tell of themselves and look after each other, from one setting. All in milliseconds. */

export interface CoordinatorTimes {
  /** Between two sweeps, and between two attempts to become the coordinator. */
  readonly every: number;
  /** That the coordinator's key lives without renewal. */
  readonly ttl: number;
  /** For which a heartbeat must be seen to be missing, once it counts no more. */
  readonly deadAfter: number;
  /** After a time in which the coordinator saw nothing, until it judges anybody: the others may have to reconnect first. */
  readonly regroup: number;
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
    // 15 s: a broken connection is noticed after 5 s, connecting takes at most 5 s, a pause before it 2 s (redis/connect.ts)
    regroup: 1.5 * beat,
    unlockedAfter: 90_000,
    forgetEvery: 600_000,
  };
}
