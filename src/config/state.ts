/** Where goldbed keeps things on this host: one state folder, one function a place. */
import path from 'node:path';

export interface State {
  readonly root: string;
  /** `images/<name>/`: generations, head, pins, work. */
  readonly images: string;
  /** `artifacts/<sha256>`: inputs of jobs, by content. */
  readonly artifacts: string;
  /** `jobs/<run>/<attempt>/`: log, artifacts, result.json. */
  readonly jobs: string;
  /** `sessions/<id>/`: what an open testbed has on this host. */
  readonly sessions: string;
  /** `backends/<name>/`: what a backend derives from generations and keeps, named after their digests. */
  readonly backends: string;
  /** Used layers, renamed here and removed in the background; whatever is left is removed by the next process. */
  readonly trash: string;
  /** `workers/<incarnation>/`: the journal of a running worker. */
  readonly workers: string;
  /** Locked files of processes in containers, as their signs of life (exec/sign-of-life.ts). */
  readonly processes: string;
  /** The embedded Redis: data, socket, lock. */
  readonly redis: string;
}

export function stateAt(root: string): State {
  const at = (name: string): string => path.join(root, name);
  return {
    root,
    images: at('images'),
    artifacts: at('artifacts'),
    jobs: at('jobs'),
    sessions: at('sessions'),
    backends: at('backends'),
    trash: at('trash'),
    workers: at('workers'),
    processes: at('processes'),
    redis: at('redis'),
  };
}

/** `GOLDBED_STATE`, else `/var/lib/goldbed` for root, else `$XDG_STATE_HOME/goldbed`. */
export function defaultStateRoot(env: NodeJS.ProcessEnv, uid: number): string {
  if (env['GOLDBED_STATE']) return path.resolve(env['GOLDBED_STATE']);
  if (uid === 0) return '/var/lib/goldbed';
  const home = env['XDG_STATE_HOME'] || path.join(env['HOME'] ?? '/', '.local/state');
  return path.join(home, 'goldbed');
}
