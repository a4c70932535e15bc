/** The stream in which events wait for their time, and those that are due for the workers. Made when it is first needed. */
import { z } from 'zod';
import { MillraceError } from '../core/errors.ts';
import { subjectCovers } from '../core/names.ts';
import type { Settings } from '../core/settings.ts';
import { subjectsOf, type Subjects } from '../core/subjects.ts';
import type { Bus } from './connection.ts';
import { apiSchema, JetStreamApi } from './jetstream-api.ts';
import { streamConfig } from './stream-config.ts';

/** JetStream's error code for a stream that is not there. */
const NO_STREAM = 10059;

const streamSchema = apiSchema.extend({
  config: z
    .looseObject({
      subjects: z.array(z.string()).optional(),
      retention: z.string().optional(),
      allow_msg_schedules: z.boolean().optional(),
      max_age: z.number().optional(),
    })
    .optional(),
});
type StreamConfig = NonNullable<z.infer<typeof streamSchema>['config']>;

export function laterStream(namespace: string): string {
  return `${namespace}-later`;
}

export class LaterStream {
  readonly name: string;
  readonly #api: JetStreamApi;
  readonly #settings: Settings;
  readonly #subjects: Subjects;
  #ensured: Promise<void> | undefined;

  constructor(bus: Bus, settings: Settings) {
    this.name = laterStream(settings.namespace);
    this.#api = new JetStreamApi(bus);
    this.#settings = settings;
    this.#subjects = subjectsOf(settings.namespace);
  }

  /**
   * Resolves when the stream is there; asks once. Throws STREAM_UNUSABLE where one of this name cannot serve, UNAVAILABLE or
   * TIMEOUT where JetStream does not.
   */
  ensure(): Promise<void> {
    if (this.#ensured === undefined) {
      this.#ensured = this.#ensure();
      this.#ensured.catch(() => this.forget());
    }
    return this.#ensured;
  }

  /** It may be gone: looked for again when it is next needed. */
  forget(): void {
    this.#ensured = undefined;
  }

  /** Asked before it is made: who may only publish needs no permission to make streams. */
  async #ensure(): Promise<void> {
    const known = await this.#info();
    if (known !== undefined) {
      this.#assertUsable(known);
      return;
    }
    const config = streamConfig(this.name, this.#wanted(), this.#settings.replicas);
    const { error } = await this.#api.ask(
      `STREAM.CREATE.${this.name}`,
      { ...config, allow_msg_schedules: true },
      streamSchema,
    );
    // Whatever the refusal says: somebody else may have made it meanwhile.
    const made = await this.#info();
    if (made === undefined) {
      const why = error?.description ?? 'it is not there';
      throw new MillraceError('UNAVAILABLE', `The stream ${this.name} cannot be made: ${why}.`);
    }
    this.#assertUsable(made);
  }

  async #info(): Promise<StreamConfig | undefined> {
    const { config, error } = await this.#api.ask(`STREAM.INFO.${this.name}`, {}, streamSchema);
    if (config !== undefined || error?.err_code === NO_STREAM) return config;
    const why = error?.description ?? 'its configuration is not known';
    throw new MillraceError('UNAVAILABLE', `The stream ${this.name} does not serve: ${why}.`);
  }

  #wanted(): string[] {
    return [this.#subjects.later('*'), this.#subjects.due('*')];
  }

  #assertUsable(config: StreamConfig): void {
    const { subjects = [], retention = 'limits', allow_msg_schedules, max_age = 0 } = config;
    const faults: string[] = [];
    if (allow_msg_schedules !== true) faults.push('no allow_msg_schedules');
    if (retention !== 'limits') faults.push(`the retention ${retention} instead of limits`);
    if (max_age > 0) faults.push('a max_age, after which events that wait are lost');
    for (const wanted of this.#wanted()) {
      if (subjects.some((pattern) => subjectCovers(pattern, wanted))) continue;
      faults.push(`not the subject ${wanted}`);
    }
    if (faults.length === 0) return;
    throw new MillraceError(
      'STREAM_UNUSABLE',
      `The stream ${this.name} cannot hold events until they are due: it has ${faults.join(', ')}. Mend or remove it, or use another namespace.`,
    );
  }
}
