/** What a host has for jobs, and what it reserves for one of each size: `worker.capacity` and `sizes` in the configuration. */
import * as z from 'zod';

const cpus = z.number().int('expected a whole number').min(1, 'expected 1 or more').max(4096, 'expected 4096 or fewer');
const megabytes = z
  .number()
  .int('expected a whole number of megabytes')
  .nonnegative('expected 0 or more megabytes')
  .max(1e9, 'expected fewer megabytes');

/** What is left out is what the host has. */
export const capacitySchema = z.strictObject({
  cpus: cpus.optional(),
  memory: megabytes.optional(),
  /** In the state folder. */
  disk: megabytes.optional(),
});
export type Capacity = z.infer<typeof capacitySchema>;

export const sizesSchema = z.strictObject({
  s: capacitySchema.optional(),
  m: capacitySchema.optional(),
  l: capacitySchema.optional(),
  xl: capacitySchema.optional(),
});
type SomeSizes = z.infer<typeof sizesSchema>;

export interface SizeSettings {
  readonly cpus: number;
  readonly memory: number;
  readonly disk: number;
}
export type SizesSettings = Readonly<Record<'s' | 'm' | 'l' | 'xl', SizeSettings>>;

/** Each is twice the one before. */
const usual: SizesSettings = {
  s: { cpus: 1, memory: 2048, disk: 8192 },
  m: { cpus: 2, memory: 4096, disk: 16_384 },
  l: { cpus: 4, memory: 8192, disk: 32_768 },
  xl: { cpus: 8, memory: 16_384, disk: 65_536 },
};

export function sizesOf(file: SomeSizes = {}): SizesSettings {
  return {
    s: sizeOf(usual.s, file.s),
    m: sizeOf(usual.m, file.m),
    l: sizeOf(usual.l, file.l),
    xl: sizeOf(usual.xl, file.xl),
  };
}

export function mergeSizes(lower: SomeSizes = {}, upper: SomeSizes = {}): SomeSizes {
  return {
    s: { ...lower.s, ...upper.s },
    m: { ...lower.m, ...upper.m },
    l: { ...lower.l, ...upper.l },
    xl: { ...lower.xl, ...upper.xl },
  };
}

function sizeOf(of: SizeSettings, file: Capacity = {}): SizeSettings {
  return { cpus: file.cpus ?? of.cpus, memory: file.memory ?? of.memory, disk: file.disk ?? of.disk };
}
