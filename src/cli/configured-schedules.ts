/** The schedules that the configuration of this host asks for. */
import type { Settings } from '../config/load.ts';
import { scheduleFor, strategyFor } from '../config/policy.ts';
import type { ImageSchedule } from '../producer/schedules.ts';

/** Who makes them, as `image schedule` tells it. */
export function configuredBy({ worker }: Pick<Settings, 'worker'>): string {
  return `configuration of ${worker.name}`;
}

export function configuredSchedules(settings: Pick<Settings, 'images' | 'worker'>): ImageSchedule[] {
  const { images } = settings;
  return Object.keys(images.policy).flatMap((image) => {
    const schedule = scheduleFor(images.policy, image);
    if (schedule === undefined) return [];
    return [{ image, ...schedule, strategy: strategyFor(images.policy, image), by: configuredBy(settings) }];
  });
}
