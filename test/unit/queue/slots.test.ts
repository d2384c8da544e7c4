/** The ledger of slots: never more than there are, and each is given back once. */
import { expect, test } from 'vitest';
import { Slots } from '../../../src/worker/slots.ts';

test('there are as many as there are', () => {
  const slots = new Slots(2);
  const first = slots.tryReserve();
  using second = slots.tryReserve();
  expect([first, second].includes(undefined)).toBe(false);
  expect(slots.tryReserve()).toBeUndefined();
  first?.[Symbol.dispose]();
  expect(slots.free).toBe(1);
});

test('giving back twice frees one', () => {
  const slots = new Slots(2);
  const first = slots.tryReserve();
  using _ = slots.tryReserve();
  first?.[Symbol.dispose]();
  first?.[Symbol.dispose]();
  expect(slots.free).toBe(1);
  using again = slots.tryReserve();
  expect(again).toBeDefined();
  expect(slots.tryReserve()).toBeUndefined();
});
