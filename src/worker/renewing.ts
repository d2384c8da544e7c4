/**
 * What the thread of renewals does: renews each claim that it was told of, at its pace, and tells the heartbeat when the
 * other thread is late with it. Redis that is away, or refuses, says nothing about a claim. It connects when there is
 * something to say, so a host that runs nothing costs Redis no further connection.
 */
import type { RedisHandle } from '../redis/connect.ts';
import { redisTime } from '../redis/time.ts';
import { renewLock } from './lock.ts';
import { monotonic } from './monotonic.ts';
import type { Heart, ToThread } from './renewals.ts';

export interface RenewingParts {
  /** Rejects while Redis is away: asked again the next time. */
  readonly connect: () => Promise<RedisHandle>;
  readonly lost: (token: string) => void;
  /** Milliseconds; see ThreadData. */
  readonly patience: number;
}

export class Renewing {
  readonly #parts: RenewingParts;
  readonly #timers = new Map<string, NodeJS.Timeout>();
  #redis: Promise<RedisHandle> | undefined;
  #heart: { readonly timer: NodeJS.Timeout; beaten: number } | undefined;
  /** When the other thread was heard last; monotonic milliseconds. */
  #heard = monotonic();

  constructor(parts: RenewingParts) {
    this.#parts = parts;
  }

  hear(words: ToThread): void {
    this.#heard = monotonic();
    switch (words.say) {
      case 'hold':
        return this.#hold(words);
      case 'let-go':
        return this.#letGo(words.token);
      case 'keep-alive':
        return this.#keepAlive(words.heart);
      case 'beaten':
        if (this.#heart !== undefined) this.#heart.beaten = monotonic();
        return;
      case 'quiet':
        clearInterval(this.#heart?.timer);
        this.#heart = undefined;
        return;
      case 'here':
    }
  }

  #hold({ claim, pace, renewed }: Extract<ToThread, { say: 'hold' }>): void {
    const at = new BigInt64Array(renewed);
    const { key, token } = claim;
    const renew = async (): Promise<void> => {
      let began: number;
      do {
        began = monotonic();
        const redis = await this.#connected();
        const ours = await renewLock(redis, key, { id: claim.runId, attempt: claim.attempt }, token, pace.lock);
        if (!this.#timers.has(token)) return;
        if (!ours) {
          this.#letGo(token);
          return this.#parts.lost(token);
        }
        Atomics.store(at, 0, BigInt(began));
      } while (monotonic() - began > pace.every); // it has waited for Redis: that it began long ago says too little
    };
    this.#letGo(token);
    const timer = setInterval(this.#oneAtATime(renew), pace.every);
    this.#timers.set(token, timer);
  }

  #letGo(token: string): void {
    clearInterval(this.#timers.get(token));
    this.#timers.delete(token);
  }

  #keepAlive({ member, beat, alive }: Heart): void {
    clearInterval(this.#heart?.timer);
    const tell = async (): Promise<void> => {
      if (monotonic() - heart.beaten < 1.5 * beat) return;
      const { client, keys } = await this.#connected();
      const until = (await redisTime(client)) + alive;
      await client.zadd(keys.workers, 'XX', until, member); // XX: it may have been taken out meanwhile
      heart.beaten = monotonic();
    };
    const heart = { timer: setInterval(this.#oneAtATime(tell), beat / 2), beaten: monotonic() };
    this.#heart = heart;
  }

  /** While Redis is away one waits for it, and not one for each turn. Failing means that it is away, or refuses. */
  #oneAtATime(action: () => Promise<void>): () => void {
    let busy = false;
    return () => {
      if (busy || monotonic() - this.#heard > this.#parts.patience) return;
      busy = true;
      void action()
        .catch(() => {})
        .finally(() => (busy = false));
    };
  }

  async #connected(): Promise<RedisHandle> {
    this.#redis ??= this.#parts.connect();
    try {
      return await this.#redis;
    } catch (error) {
      this.#redis = undefined;
      throw error;
    }
  }
}
