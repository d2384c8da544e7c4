/** The ledger of a host: never more than there is, each reservation is given back once, and what is kept stays free. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sizesOf } from '../../../src/config/sizes.ts';
import { fits, minus, noResources, plus, sizeNames, times, type Resources } from '../../../src/protocol/size.ts';
import { Ledger, type KeptRoom, type Reservation } from '../../../src/worker/ledger.ts';

const usual = sizesOf();
const slots = (count: number): Ledger => new Ledger(times(usual.m, count), usual);

describe('of as many slots', () => {
  test('so many jobs of size m fit, and no more', () => {
    const ledger = slots(2);
    const first = ledger.reserve('m');
    using second = ledger.reserve('m');
    expect([first, second].includes(undefined)).toBe(false);
    expect(ledger.reserve('m')).toBeUndefined();
    expect(ledger).toMatchObject({ slots: 2, busy: 2, full: true });
    first?.[Symbol.dispose]();
    expect(ledger).toMatchObject({ slots: 2, busy: 1, full: false });
  });

  test('giving back twice frees one', () => {
    const ledger = slots(2);
    const first = ledger.reserve('m');
    using _ = ledger.reserve('m');
    first?.[Symbol.dispose]();
    first?.[Symbol.dispose]();
    expect(ledger.busy).toBe(1);
    using again = ledger.reserve('m');
    expect(again).toBeDefined();
    expect(ledger.reserve('m')).toBeUndefined();
  });

  test('other sizes take part of one, or several; what is larger than the host is not taken', () => {
    expect([1, 2, 3, 4].map((count) => slots(count).takes.at(-1))).toEqual(['m', 'l', 'l', 'xl']);
    const ledger = slots(3);
    using _ = ledger.reserve('s');
    expect(ledger.busy).toBe(1);
    using __ = ledger.reserve('l');
    expect(ledger).toMatchObject({ busy: 3, full: false });
    using ___ = ledger.reserve('s');
    expect(ledger.full).toBe(true);
    expect(ledger.reserve('xl')).toBeUndefined();
  });

  test('what runs already counts, though it does not fit: then nothing else begins', () => {
    const ledger = slots(1);
    const running = [ledger.take('m'), ledger.take('m')];
    expect(ledger).toMatchObject({ slots: 1, busy: 2, full: true });
    running[0]?.[Symbol.dispose]();
    expect(ledger.reserve('s')).toBeUndefined();
    running[1]?.[Symbol.dispose]();
    expect(ledger.reserve('m')).toBeDefined();
  });

  test('none takes nothing', () => {
    expect(slots(0)).toMatchObject({ slots: 0, busy: 0, full: true, takes: [] });
  });
});

test.each(['cpus', 'memory', 'disk'] as const)('the %s alone can be what is missing', (scarce) => {
  const ledger = new Ledger({ ...times(usual.m, 10), [scarce]: usual.m[scarce] * 2 - 1 }, usual);
  using _ = ledger.reserve('m');
  expect(ledger.reserve('m')).toBeUndefined();
  expect(ledger.takes).not.toContain('l');
});

describe('room that is kept', () => {
  test('is there when those that ran before have ended, whoever wanted it meanwhile', () => {
    const ledger = slots(5);
    const before = [ledger.reserve('m'), ledger.reserve('m'), ledger.reserve('m')];
    using kept = ledger.keepRoom('xl');
    expect(ledger.keepsRoomFor).toBe('xl');
    expect(kept.reserve()).toBeUndefined();
    const beside = ledger.reserve('m'); // five slots less four: one is nobody's
    expect(beside).toBeDefined();
    before[0]?.[Symbol.dispose]();
    expect(ledger.reserve('m')).toBeUndefined();
    expect(ledger.full).toBe(false);
    beside?.[Symbol.dispose]();
    using again = ledger.reserve('s');
    expect(again).toBeDefined();
    before[1]?.[Symbol.dispose]();
    before[2]?.[Symbol.dispose]();
    expect(kept.reserve()).toBeDefined();
  });

  test('is free for all when it is not kept any more', () => {
    const ledger = slots(4);
    const kept = ledger.keepRoom('xl');
    expect(ledger.reserve('s')).toBeUndefined();
    kept[Symbol.dispose]();
    expect(ledger.keepsRoomFor).toBeUndefined();
    expect(ledger.reserve('s')).toBeDefined();
  });
});

const amounts = (min: number, max: number): fc.Arbitrary<Resources> =>
  fc.record({ cpus: fc.integer({ min, max }), memory: fc.integer({ min, max }), disk: fc.integer({ min, max }) });
const size = fc.constantFrom(...sizeNames);
const step = fc.oneof(
  { arbitrary: fc.record({ do: fc.constant('reserve' as const), size }), weight: 4 },
  { arbitrary: fc.record({ do: fc.constant('release' as const), which: fc.nat(50) }), weight: 3 },
  { arbitrary: fc.record({ do: fc.constant('keep' as const), size }), weight: 1 },
  { arbitrary: fc.record({ do: fc.constant('unkeep' as const) }), weight: 1 },
);

test('whatever is reserved, given back and kept: never more than there is, and what is kept comes', () => {
  const sizes = fc.record({ s: amounts(1, 5), m: amounts(1, 5), l: amounts(1, 9), xl: amounts(1, 20) });
  const property = fc.property(amounts(1, 30), sizes, fc.array(step, { maxLength: 60 }), (capacity, sized, steps) => {
    const ledger = new Ledger(capacity, sized);
    let held: { readonly room: Reservation; readonly need: Resources; readonly since: object | undefined }[] = [];
    let kept: KeptRoom | undefined;
    const release = (gone: typeof held): void => {
      for (const { room } of gone) room[Symbol.dispose]();
      held = held.filter((each) => !gone.includes(each));
    };
    for (const next of steps) {
      if (next.do === 'reserve') {
        const room = ledger.reserve(next.size);
        if (room !== undefined) held.push({ room, need: sized[next.size], since: kept });
        // without anything kept, nothing is refused that fits
        else if (kept === undefined)
          expect(fits(sized[next.size], minus(capacity, ledger.reserved)), next.size).toBe(false);
      } else if (next.do === 'release') release(held.slice(next.which, next.which + 1));
      else kept?.[Symbol.dispose]();
      if (next.do === 'unkeep') kept = undefined;
      if (next.do === 'keep') kept = ledger.takes.includes(next.size) ? ledger.keepRoom(next.size) : undefined;
      expect(ledger.reserved).toEqual(held.map(({ need }) => need).reduce(plus, noResources));
      expect(fits(ledger.reserved, capacity)).toBe(true);
    }
    const last = kept;
    if (last === undefined) return;
    release(held.filter(({ since }) => since !== last));
    expect(last.reserve()).toBeDefined();
    expect(fits(ledger.reserved, capacity)).toBe(true);
  });
  fc.assert(property, { numRuns: 500 });
});
