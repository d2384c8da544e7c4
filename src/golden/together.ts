/** Looks at one and the same testbed that do not disturb each other, at the same time. */

/** As Promise.all, but waits for all of them, and throws what the first in the list threw, not the first in time. */
export async function together<T extends readonly unknown[]>(
  looks: readonly [...{ [K in keyof T]: Promise<T[K]> }],
): Promise<T> {
  const settled = await Promise.allSettled(looks);
  for (const one of settled) if (one.status === 'rejected') throw one.reason;
  return settled.map((one) => (one as PromiseFulfilledResult<unknown>).value) as unknown as T;
}
