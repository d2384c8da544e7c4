import { defineConfig } from 'vitest/config';

/**
 * unit: this process only. redis: a real server as a child. conformance: real testbeds and clients, needs root. nightly: the
 * same, where it takes too long for every change.
 */
const project = (name: string, testTimeout: number) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout,
    hookTimeout: testTimeout,
    retry: 0,
    pool: 'forks' as const,
    fileParallelism: name === 'unit',
  },
});

export default defineConfig({
  test: {
    projects: [
      project('unit', 60_000),
      project('redis', 120_000),
      project('conformance', 600_000),
      project('nightly', 900_000),
    ],
  },
});
