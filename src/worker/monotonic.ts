/** The machine's clock that nobody sets: milliseconds since some moment in the past, the same in every thread. */
export const monotonic = (): number => Number(process.hrtime.bigint() / 1_000_000n);
