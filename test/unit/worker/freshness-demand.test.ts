/** What a job may ask of its image, and when it has it. */
import { describe, expect, test } from 'vitest';
import { UsageError } from '../../../src/protocol/errors.ts';
import { buildRequestSchema, jobRequestSchema, refreshRequest, requestId } from '../../../src/protocol/job-request.ts';
import { demandOf, unmetDemand, type Demand } from '../../../src/worker/freshness-demand.ts';

const hour = 3_600_000;
const now = 1_000 * hour;
const image = { generation: 4, next: 6, looked: now - 5 * hour };
const plain = { v: 1, kind: 'build', image: 'img', source: { type: 'archive', package: 'hello' } };

describe('the request', () => {
  test('the ids of requests without these wishes are what they were', () => {
    expect(requestId(jobRequestSchema.parse(plain))).toBe('bd3222be7f220ef8');
    const update = { v: 1, kind: 'update-golden', image: 'img', strategy: 'upgrade' };
    expect(requestId(jobRequestSchema.parse(update))).toBe('u79a833297aad451');
    expect(refreshRequest('img', 'upgrade')).toEqual(jobRequestSchema.parse(update));
  });

  test('a wish makes another request', () => {
    const ids = [{}, { maxAge: 0 }, { maxAge: 60 }, { minGeneration: 60 }].map((wish) =>
      requestId(buildRequestSchema.parse({ ...plain, ...wish })),
    );
    expect(new Set(ids).size).toBe(4);
  });

  test.each([{ maxAge: -1 }, { maxAge: 1.5 }, { maxAge: '12h' }, { minGeneration: 0 }])('%j is refused', (wish) =>
    expect(buildRequestSchema.safeParse({ ...plain, ...wish }).success).toBe(false),
  );

  test('an update has no wishes of this kind, and a replacement no steps', () => {
    const update = { v: 1, kind: 'update-golden', image: 'img' };
    expect(jobRequestSchema.safeParse({ ...update, strategy: 'upgrade', maxAge: 1 }).success).toBe(false);
    expect(jobRequestSchema.safeParse({ ...update, strategy: 'replace', steps: 'u' }).success).toBe(false);
    expect(demandOf(refreshRequest('img', 'replace'), 60)).toBeUndefined();
  });

  test('what the job says counts before what is usual here', () => {
    const request = (wish: object) => buildRequestSchema.parse({ ...plain, ...wish });
    expect(demandOf(request({}), undefined)).toBeUndefined();
    expect(demandOf(request({}), 60)).toEqual({ maxAge: 60 });
    expect(demandOf(request({ maxAge: 5 }), 60)).toEqual({ maxAge: 5 });
    expect(demandOf(request({ minGeneration: 5 }), 60)).toEqual({ maxAge: 60, minGeneration: 5 });
  });
});

describe('the image', () => {
  const at = { submitted: now - hour / 2, asked: undefined, shared: hour, now };
  const verdict = (demand: Demand, more: Partial<typeof image> = {}, moments: object = {}) =>
    unmetDemand(demand, { ...image, ...more }, { ...at, ...moments });

  test('may be as old as allowed', () => {
    expect(verdict({ maxAge: 5 * 3600 })).toBeUndefined();
    expect(verdict({ maxAge: 5 * 3600 - 1 })).toBe('5 h old, 4 h allowed');
    expect(verdict({ maxAge: 0 })).toBe('5 h old, 0 s allowed');
    expect(verdict({ maxAge: 300 }, { looked: now - 50 * hour })).toBe('2 d old, 5 min allowed');
  });

  test('is new enough for a whole batch when it was looked at after the batch was handed in, for an hour', () => {
    expect(verdict({ maxAge: 0 }, { looked: at.submitted })).toBeUndefined();
    expect(verdict({ maxAge: 0 }, { looked: at.submitted - 1 })).toBe('30 min old, 0 s allowed');
    const early = { submitted: now - 3 * hour };
    expect(verdict({ maxAge: 0 }, { looked: now - hour }, early)).toBeUndefined();
    expect(verdict({ maxAge: 0 }, { looked: now - hour - 1 }, early)).toBe('60 min old, 0 s allowed');
  });

  test('is new enough for a job that has asked for it, however long ago that is', () => {
    const asked = { submitted: now - 9 * hour, asked: image.looked };
    expect(verdict({ maxAge: 0 }, {}, asked)).toBeUndefined();
    expect(verdict({ maxAge: 0 }, {}, { ...asked, asked: image.looked + 1 })).toBe('5 h old, 0 s allowed');
  });

  test('has the generation, or gets it by the next update, or never', () => {
    expect(verdict({ minGeneration: 4 })).toBeUndefined();
    expect(verdict({ minGeneration: 5 })).toBe('generation 5 was asked for');
    expect(verdict({ minGeneration: 6 })).toBe('generation 6 was asked for');
    expect(() => verdict({ minGeneration: 7 })).toThrow(UsageError);
    expect(() => verdict({ minGeneration: 7 })).toThrow(
      'generation 7 was asked for, but the current one is 4 and the next one will be 6',
    );
  });
});
