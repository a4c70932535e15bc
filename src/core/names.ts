import { MillraceError } from './errors.ts';

/**
 * What may be a function's name, a namespace and a subject. Each `…Reason` gives what is wrong, to be put after
 * the thing's name ("must be …"), or undefined when it is legal; each `assert…` throws it.
 */
export const MAX_FUNCTION_NAME_CHARACTERS = 64;
export const MAX_NAMESPACE_CHARACTERS = 32;
/** NATS sets no bound of its own below the control line's 4,096; consumer and stream names build on subjects. */
export const MAX_SUBJECT_BYTES = 255;

/** A name in a definition is the author's mistake, a name in a call is the caller's. */
export type NameErrorCode = 'INVALID_DEFINITION' | 'INVALID_INPUT';

const NAME = /^[A-Za-z0-9_-]+$/;
// Lone surrogates have no UTF-8 form: the broker would see another subject than the one given.
const NOT_IN_SUBJECT = /[\s\p{Cc}\p{Surrogate}]/u;
const SHOWN_CHARACTERS = 80;

/** The value as it may appear in a message: quoted, control characters escaped, bounded. */
export function quote(value: unknown): string {
  if (typeof value !== 'string') return `of type ${value === null ? 'null' : typeof value}`;
  if (value.length <= SHOWN_CHARACTERS) return JSON.stringify(value);
  return JSON.stringify(`${value.slice(0, SHOWN_CHARACTERS)}…`);
}

/** The function that publishes events whose time has come. A name that no user can give. */
export const LATER_FUNCTION = '=later';

/** Is it a function of the platform's own, which users neither see nor call? */
export function isOwnFunction(name: string): boolean {
  return name.startsWith('=');
}

function tokenNameReason(name: unknown, maxCharacters: number): string | undefined {
  if (typeof name === 'string' && name.length <= maxCharacters && NAME.test(name)) return undefined;
  return `must be 1 to ${maxCharacters} of A-Z a-z 0-9 _ -`;
}

export function functionNameReason(name: unknown): string | undefined {
  return tokenNameReason(name, MAX_FUNCTION_NAME_CHARACTERS);
}

export function namespaceReason(namespace: unknown): string | undefined {
  return tokenNameReason(namespace, MAX_NAMESPACE_CHARACTERS);
}

/** What is wrong with a subject that is published to: one exact subject, no wildcards. */
export function publishSubjectReason(subject: unknown): string | undefined {
  if (typeof subject !== 'string') return 'must be a string';
  if (subject === '') return 'must not be empty';
  if (Buffer.byteLength(subject) > MAX_SUBJECT_BYTES)
    return `must be at most ${MAX_SUBJECT_BYTES} bytes of UTF-8`;
  if (NOT_IN_SUBJECT.test(subject))
    return 'must not contain whitespace, control characters or lone surrogates';
  if (subject.startsWith('$')) return 'must not start with "$", which belongs to the broker';
  if (`.${subject}.`.includes('..'))
    return 'must not have an empty token: no dot at the start, at the end or beside another';
  if (/[*>]/.test(subject)) return 'must not contain a wildcard ("*" or ">")';
  return undefined;
}

/** What is wrong with a subject that is subscribed to: `*` stands for one token, `>` for one or more at the end. */
export function subscriptionSubjectReason(subject: unknown): string | undefined {
  if (typeof subject !== 'string') return publishSubjectReason(subject);
  // With its wildcards made plain, the same rules as for one exact subject.
  const reason = publishSubjectReason(subject.replace(/[*>]/g, 'w'));
  if (reason !== undefined) return reason;
  const tokens = subject.split('.');
  for (const [index, token] of tokens.entries()) {
    if (token.length > 1 && /[*>]/.test(token))
      return `must not have a wildcard inside the token ${quote(token)}: "*" and ">" stand for whole tokens`;
    if (token === '>' && index < tokens.length - 1) return 'must have ">" as its last token only';
  }
  if (tokens[0] === '_INBOX') return 'must not start with "_INBOX", where NATS clients get replies';
  return undefined;
}

/**
 * Why a legal subject, with or without wildcards, is not for users: it lies under the namespace, or would match
 * what does. Apart from `subscriptionSubjectReason` because the namespace is configured, not known at definition.
 */
export function reservedReason(subject: string, namespace: string): string | undefined {
  const [first] = subject.split('.', 1);
  if (first === '*' || first === '>')
    return `must not have a wildcard as its first token: it would capture the platform's own subjects (${namespace}.>) and the broker's ($SYS, $JS, _INBOX)`;
  if (first === '_INBOX') return 'lies under _INBOX, where NATS clients wait for their answers';
  if (first === namespace) return `lies under "${namespace}", which is reserved for the platform`;
  return undefined;
}

/** Does a message on `subject` (no wildcards) reach a subscription on `pattern`? Both must be legal. */
export function subjectMatches(pattern: string, subject: string): boolean {
  const wanted = pattern.split('.');
  const given = subject.split('.');
  for (const [index, token] of wanted.entries()) {
    if (token === '>') return given.length > index;
    if (index >= given.length || (token !== '*' && token !== given[index])) return false;
  }
  return wanted.length === given.length;
}

/** Is there a subject that both patterns match? An event on it would come twice. Both must be legal. */
export function subjectsOverlap(a: string, b: string): boolean {
  const left = a.split('.');
  const right = b.split('.');
  for (let index = 0; index < Math.min(left.length, right.length); index += 1) {
    const [one, other] = [left[index], right[index]];
    if (one === '>' || other === '>') return true;
    if (one !== '*' && other !== '*' && one !== other) return false;
  }
  return left.length === right.length;
}

/** Does `pattern` match everything that `other` does? Both must be legal. */
export function subjectCovers(pattern: string, other: string): boolean {
  const wide = pattern.split('.');
  const narrow = other.split('.');
  for (const [index, token] of wide.entries()) {
    if (token === '>') return narrow.length > index;
    const given = narrow[index];
    if (given === undefined || given === '>') return false;
    if (token !== '*' && token !== given) return false;
  }
  return wide.length === narrow.length;
}

/** Throws "The <what> <value> <reason>." when there is a reason. */
function refuse(what: string, value: unknown, reason: string | undefined, code: NameErrorCode) {
  if (reason !== undefined) throw new MillraceError(code, `The ${what} ${quote(value)} ${reason}.`);
}

export function assertFunctionName(name: unknown, code: NameErrorCode): asserts name is string {
  refuse('function name', name, functionNameReason(name), code);
}

export function assertNamespace(name: unknown, code: NameErrorCode): asserts name is string {
  refuse('namespace', name, namespaceReason(name), code);
}

export function assertPublishSubject(
  subject: unknown,
  code: NameErrorCode,
): asserts subject is string {
  refuse('subject', subject, publishSubjectReason(subject), code);
}

export function assertSubscriptionSubject(
  subject: unknown,
  code: NameErrorCode,
): asserts subject is string {
  refuse('subject', subject, subscriptionSubjectReason(subject), code);
}

export function assertNotReserved(subject: string, namespace: string, code: NameErrorCode): void {
  refuse('subject', subject, reservedReason(subject, namespace), code);
}
