import { defineConfig } from 'vitest/config';

/**
 * unit: this process only. redis: a real server as a child. conformance: real testbeds and clients, needs root. nightly: the
 * same, where it takes too long for every change.
 */
const order = ['unit', 'redis', 'conformance', 'nightly'];

const project = (name: string, testTimeout: number, maxWorkers = 1) => ({
  test: {
    name,
    maxWorkers,
    sequence: { groupOrder: order.indexOf(name) }, // one project after another
    include: [`test/${name}/**/*.test.ts`],
    testTimeout,
    hookTimeout: testTimeout,
    retry: 0,
    pool: 'forks' as const,
  },
});

export default defineConfig({
  test: {
    projects: [
      project('unit', 60_000, 2),
      project('redis', 120_000),
      project('conformance', 600_000),
      project('nightly', 900_000),
    ],
  },
});
