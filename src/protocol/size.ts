/** Sizes of jobs, and what a host sets aside for one. How much that is each host's configuration says. */
import * as z from 'zod';

export const sizeNames = ['s', 'm', 'l', 'xl'] as const;
export const sizeSchema = z.enum(sizeNames, 'expected s, m, l or xl');
export type Size = z.infer<typeof sizeSchema>;

/** Of a job that names none. */
export const usualSize: Size = 'm';

export const resourcesSchema = z.strictObject({
  cpus: z.number(),
  /** Megabytes. */
  memory: z.number(),
  /** Megabytes in the state folder. */
  disk: z.number(),
});
export type Resources = Readonly<z.infer<typeof resourcesSchema>>;

export type Sizes = Readonly<Record<Size, Resources>>;

export const noResources: Resources = { cpus: 0, memory: 0, disk: 0 };

export function plus(a: Resources, b: Resources): Resources {
  return { cpus: a.cpus + b.cpus, memory: a.memory + b.memory, disk: a.disk + b.disk };
}

export function minus(a: Resources, b: Resources): Resources {
  return plus(a, times(b, -1));
}

/** As much of each as the larger of the two. */
export function atLeast(a: Resources, b: Resources): Resources {
  const { max } = Math;
  return { cpus: max(a.cpus, b.cpus), memory: max(a.memory, b.memory), disk: max(a.disk, b.disk) };
}

export function times(a: Resources, factor: number): Resources {
  return { cpus: a.cpus * factor, memory: a.memory * factor, disk: a.disk * factor };
}

export function fits(need: Resources, room: Resources): boolean {
  return need.cpus <= room.cpus && need.memory <= room.memory && need.disk <= room.disk;
}

/** How often it fits. */
export function howMany(need: Resources, room: Resources): number {
  const of = (one: number, all: number): number => (one === 0 ? Infinity : Math.floor(all / one));
  return Math.min(of(need.cpus, room.cpus), of(need.memory, room.memory), of(need.disk, room.disk));
}

export function describeResources({ cpus, memory, disk }: Resources): string {
  return `${cpus} ${cpus === 1 ? 'cpu' : 'cpus'}, ${memory} MB of memory, ${disk} MB of disk`;
}
