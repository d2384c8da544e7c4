/** A gauge whose values are found when somebody asks. */
import { Gauge, type Registry } from 'prom-client';

export type SetValue<Label extends string> = (labels: Partial<Record<Label, string>>, value: number) => void;

/** @param collect sets all values that there are; those of the time before are gone */
export function gauge<Label extends string>(
  registry: Registry,
  { name, help, labels }: { readonly name: string; readonly help: string; readonly labels: readonly Label[] },
  collect: (set: SetValue<Label>) => Promise<void> | void,
): void {
  const made = new Gauge({
    name,
    help,
    labelNames: [...labels],
    registers: [registry],
    async collect() {
      made.reset();
      await collect((values, value) => made.set(values as Record<Label, string>, value));
    },
  });
}
