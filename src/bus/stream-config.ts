/** What all of the platform's streams have in common: what lies there is on disk and is kept until the platform removes it, and a full one refuses. */
export function streamConfig(name: string, subjects: readonly string[], replicas: number): object {
  return {
    name,
    subjects,
    retention: 'limits',
    storage: 'file',
    discard: 'new',
    num_replicas: replicas,
    max_consumers: -1,
    max_msgs: -1,
    max_bytes: -1,
    max_age: 0,
    max_msgs_per_subject: -1,
    max_msg_size: -1,
    duplicate_window: DUPLICATE_WINDOW_NS,
    allow_direct: true,
    compression: 'none',
  };
}

/** How long an id is remembered: an event that is published twice is stored once. */
const DUPLICATE_WINDOW_NS = 120_000_000_000;
