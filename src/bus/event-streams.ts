/**
 * The streams that hold durable events: those that capture a function's subjects already, and the platform's own for all
 * others. And the stream of dead letters, and of those that are to be handled again.
 */
import { z } from 'zod';
import { MillraceError } from '../core/errors.ts';
import { subjectCovers } from '../core/names.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf } from '../core/subjects.ts';
import { bucketKeys } from './bucket-keys.ts';
import { eachOf } from './each-of.ts';
import type { Bus } from './connection.ts';
import { apiSchema, JetStreamApi } from './jetstream-api.ts';
import { streamConfig } from './stream-config.ts';

/** A stream, and those of its subjects that somebody wants. */
export interface Source {
  stream: string;
  subjects: string[];
}

/** A subject, and the function that wants its events. */
export interface Wanted {
  functionName: string;
  subject: string;
}

/** Others change the platform's stream at the same time. */
const MAX_TRIES = 20;
/** Questions that are asked at the same time. */
const AT_ONCE = 16;
/** Characters of a list of subjects in an error's message. */
const MAX_SHOWN = 200;

const configSchema = z.looseObject({
  name: z.string(),
  subjects: z.array(z.string()).optional(),
  retention: z.string().optional(),
});
const streamSchema = apiSchema.extend({
  config: configSchema.optional(),
  state: z
    .object({
      first_seq: z.number(),
      last_seq: z.number(),
      subjects: z.record(z.string(), z.number()).nullish(),
    })
    .optional(),
});
const namesSchema = apiSchema.extend({ streams: z.array(z.string()).nullish() });

type StreamConfig = z.infer<typeof configSchema>;

export class EventStreams {
  readonly #bus: Bus;
  readonly #api: JetStreamApi;
  readonly #settings: Settings;
  #deadMade: Promise<void> | undefined;

  constructor(bus: Bus, settings: Settings) {
    this.#bus = bus;
    this.#api = new JetStreamApi(bus);
    this.#settings = settings;
  }

  /** The stream of events that no other one captures. */
  get own(): string {
    return `${this.#settings.namespace}-events`;
  }

  get dead(): string {
    return `${this.#settings.namespace}-dead`;
  }

  /**
   * Captures those of the functions' subjects that no stream captures yet, many in one change of the platform's stream: a thousand functions
   * that come together would else be a thousand changes, each of which reads all that others want. Throws as `sourcesOf`.
   */
  async captureTogether(functions: readonly Wanted[]): Promise<void> {
    const missing: Wanted[] = [];
    await eachOf(functions, AT_ONCE, async (wanted) => {
      if ((await this.#streamsOf(wanted.subject)).length === 0) missing.push(wanted);
    });
    await this.#captureSome(missing);
  }

  /** Those that cannot be captured together are halved, until it is known which one stands in the way. */
  async #captureSome(some: readonly Wanted[]): Promise<void> {
    const [first] = some;
    if (first === undefined) return;
    if (some.length === 1) {
      await this.#capture(first.functionName, first.subject);
      return;
    }
    try {
      await this.#add(some.map(({ subject }) => subject));
    } catch (error) {
      if ((error as MillraceError).code !== 'STREAM_UNUSABLE') throw error;
      const half = some.length >> 1;
      await this.#captureSome(some.slice(0, half));
      await this.#captureSome(some.slice(half));
    }
  }

  /**
   * Which streams have the events of a function, its dead letters that are replayed included. Captures what is not captured yet.
   * Throws STREAM_UNUSABLE where a stream that captures them cannot serve, UNAVAILABLE where JetStream does not.
   */
  async sourcesOf(functionName: string, subjects: readonly string[]): Promise<Source[]> {
    this.#deadMade ??= this.#makeDead();
    await this.#deadMade;
    const sources = new Map<string, string[]>();
    for (const subject of subjects) {
      const stream = await this.#capture(functionName, subject);
      sources.set(stream, [...(sources.get(stream) ?? []), subject]);
    }
    const replay = subjectsOf(this.#settings.namespace).replay(functionName);
    sources.set(this.dead, [replay]);
    return [...sources].map(([stream, wanted]) => ({ stream, subjects: wanted }));
  }

  /** Sequences of the first event that the stream has, and of the last one it had. */
  async bounds(stream: string): Promise<{ first: number; last: number }> {
    const { state, error } = await this.#api.ask(`STREAM.INFO.${stream}`, {}, streamSchema);
    if (state === undefined) {
      const why = error?.description ?? 'its state is not known';
      throw new MillraceError('UNAVAILABLE', `The stream ${stream} does not serve: ${why}.`);
    }
    return { first: state.first_seq, last: state.last_seq };
  }

  /** How many dead letters each function has. */
  async deadLetters(): Promise<Map<string, number>> {
    const prefix = subjectsOf(this.#settings.namespace).dead('');
    const { state } = await this.#api.ask(
      `STREAM.INFO.${this.dead}`,
      { subjects_filter: `${prefix}*` },
      streamSchema,
    );
    const counts = Object.entries(state?.subjects ?? {});
    return new Map(counts.map(([subject, count]) => [subject.slice(prefix.length), count]));
  }

  /** Removes events of a stream of the platform's own before `sequence`: all functions that read them have settled them. */
  async trim(stream: string, subject: string, sequence: number): Promise<void> {
    await this.#api.purge(stream, subject, sequence);
  }

  async #capture(functionName: string, subject: string): Promise<string> {
    for (let tries = 1; ; tries += 1) {
      const streams = await this.#streamsOf(subject);
      const covering = streams.find(({ subjects = [] }) =>
        subjects.some((pattern) => subjectCovers(pattern, subject)),
      );
      if (covering !== undefined) {
        assertReadable(functionName, subject, covering);
        return covering.name;
      }
      const other = streams.find(({ name }) => name !== this.own);
      if (other !== undefined) {
        throw new MillraceError(
          'STREAM_UNUSABLE',
          `The function ${functionName} wants the events on ${subject}, of which the stream ${other.name} captures only some (${(other.subjects ?? []).join(', ')}): let it capture all of them, or name those subjects only.`,
        );
      }
      if (tries > MAX_TRIES) {
        throw new MillraceError('UNAVAILABLE', `The events on ${subject} could not be captured.`);
      }
      await this.#add([subject]);
    }
  }

  async #streamsOf(subject: string): Promise<StreamConfig[]> {
    const { streams, error } = await this.#api.ask('STREAM.NAMES', { subject }, namesSchema);
    if (error !== undefined) {
      throw new MillraceError(
        'UNAVAILABLE',
        `JetStream cannot say who stores ${subject}: ${error.description}.`,
      );
    }
    const found: StreamConfig[] = [];
    for (const name of streams ?? []) {
      const { config } = await this.#api.ask(`STREAM.INFO.${name}`, {}, streamSchema);
      if (config !== undefined) found.push(config);
    }
    return found;
  }

  /**
   * The next look at who captures the subject shows whether it was done. What somebody else has put there meanwhile must not be
   * written over: so all that workers want is noted first, and whoever has changed the stream looks whether more was noted since.
   */
  async #add(subjects: readonly string[]): Promise<void> {
    try {
      await this.#noteAndCapture(subjects);
    } catch (cause) {
      if (cause instanceof MillraceError) throw cause;
      // The client's own, of the bucket.
      const message = `The events on ${subjects.join(', ').slice(0, MAX_SHOWN)} could not be captured just now.`;
      throw new MillraceError('UNAVAILABLE', message, { cause });
    }
  }

  async #noteAndCapture(subjects: readonly string[]): Promise<void> {
    const name = `${this.own}-wanted`;
    const bucket = await this.#bus.keyValue(name, this.#settings.replicas);
    const noteOf = (subject: string): string => Buffer.from(subject).toString('base64url');
    await eachOf(subjects, AT_ONCE, async (subject) => {
      await bucket.put(noteOf(subject), subject);
    });
    for (let before = -1; ;) {
      const wanted: string[] = [];
      await eachOf((await bucketKeys(this.#bus, name)).keys, AT_ONCE, async (key) => {
        const noted = await bucket.get(key);
        if (noted?.operation === 'PUT') wanted.push(Buffer.from(key, 'base64url').toString());
      });
      if (wanted.length === before) return;
      before = wanted.length;
      try {
        await this.#captureAll(subjects, wanted);
      } catch (error) {
        // They must not stand in the way of others.
        await eachOf(subjects, AT_ONCE, async (subject) => bucket.delete(noteOf(subject)));
        throw error;
      }
    }
  }

  async #captureAll(added: readonly string[], wanted: readonly string[]): Promise<void> {
    const { config } = await this.#api.ask(`STREAM.INFO.${this.own}`, {}, streamSchema);
    if (config === undefined) {
      const refused = await this.#create(this.own, withoutCovered(added));
      // One by itself is looked at again, and then it is known what stands in its way.
      if (added.length === 1 || refused?.includes('overlap') !== true) return;
      throw new MillraceError('STREAM_UNUSABLE', `They cannot be captured together: ${refused}.`);
    }
    const all = [...new Set([...(config.subjects ?? []), ...wanted, ...added])];
    const subjects = withoutCovered(all);
    const changed = { ...config, subjects };
    const { error } = await this.#api.ask(`STREAM.UPDATE.${this.own}`, changed, streamSchema);
    if (error?.description?.includes('overlap') === true) {
      const others = subjects.filter((each) => !added.includes(each));
      throw new MillraceError(
        'STREAM_UNUSABLE',
        `The subject ${added.join(', ')} overlaps with another function's (${others.join(', ')}) without containing it or being contained in it, which JetStream does not capture: use subjects of which one contains the other.`,
      );
    }
  }

  async #makeDead(): Promise<void> {
    const subjects = subjectsOf(this.#settings.namespace);
    try {
      await this.#create(this.dead, [subjects.dead('*'), subjects.replay('*')]);
    } catch (error) {
      this.#deadMade = undefined;
      throw error;
    }
  }

  /** One that is there stays as it is. Gives why nothing was made. */
  async #create(name: string, subjects: readonly string[]): Promise<string | undefined> {
    const config = streamConfig(name, subjects, this.#settings.replicas);
    const { error } = await this.#api.ask(`STREAM.CREATE.${name}`, config, streamSchema);
    return error?.description;
  }
}

/** A stream may not be given subjects of which one contains the other. */
function withoutCovered(subjects: readonly string[]): string[] {
  return subjects.filter(
    (each) => !subjects.some((wider) => wider !== each && subjectCovers(wider, each)),
  );
}

/** Whoever handles events of such a stream takes them away from others, or they go before they are read. */
function assertReadable(functionName: string, subject: string, { name, retention }: StreamConfig) {
  if (retention === undefined || retention === 'limits') return;
  const why =
    retention === 'workqueue'
      ? 'is a work queue, which gives each event to one consumer and then removes it'
      : `has the retention ${retention}, and removes events when its other consumers have them`;
  throw new MillraceError(
    'STREAM_UNUSABLE',
    `The function ${functionName} wants the events on ${subject}, but their stream ${name} ${why}: give it the retention "limits", or set delivery: 'ephemeral'.`,
  );
}
