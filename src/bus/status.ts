import type { Msg } from 'nats';

/** The broker's answer where a request's subject has no subscriber: an empty message with status 503. */
export function isNoResponders(message: Msg): boolean {
  return message.data.length === 0 && message.headers?.code === 503;
}
