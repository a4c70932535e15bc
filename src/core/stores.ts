/**
 * All that the platform keeps in JetStream under a namespace, by its name there: who backs it up, looks after it, or says who may
 * touch it, finds all of it here.
 */

/** Streams. */
export function streamsOf(namespace: string) {
  return {
    log: `${namespace}-log`,
    snapshots: `${namespace}-snapshots`,
    events: `${namespace}-events`,
    dead: `${namespace}-dead`,
    later: `${namespace}-later`,
  };
}

/** Key-value buckets. */
export function bucketsOf(namespace: string) {
  return {
    assignment: `${namespace}-assignment`,
    wanted: `${namespace}-events-wanted`,
    deliveries: `${namespace}-deliveries`,
    deployments: `${namespace}-deployments`,
  };
}

/** Object stores. */
export function objectsOf(namespace: string) {
  return { deploys: `${namespace}-deploys` };
}

/** The stream behind a bucket. */
export function streamOfBucket(bucket: string): string {
  return `KV_${bucket}`;
}

/** The stream behind an object store. */
export function streamOfObjects(bucket: string): string {
  return `OBJ_${bucket}`;
}
