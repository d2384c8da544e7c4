/** Looks at one and the same testbed that do not disturb each other, at the same time. */

/** As Promise.all, but waits for all of them, and throws what the first in the list threw, not the first in time. */
export async function together<T extends readonly Promise<unknown>[]>(
  looks: readonly [...T],
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  const settled = await Promise.allSettled<unknown>(looks);
  for (const one of settled) if (one.status === 'rejected') throw one.reason;
  const values = settled.map((one) => (one.status === 'fulfilled' ? one.value : undefined));
  return values as { -readonly [K in keyof T]: Awaited<T[K]> };
}
