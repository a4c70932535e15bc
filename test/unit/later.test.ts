import { headers as newHeaders } from 'nats';
import { describe, expect, it } from 'vitest';
import { dueEvent, isScheduled, scheduled, tokenOf } from '../../src/bus/later.ts';
import type { PreparedEvent } from '../../src/bus/publisher.ts';
import type { MillraceError } from '../../src/core/errors.ts';
import {
  dueMsOf,
  MAX_DELAY_MS,
  wasPublished,
  writePublished,
  type When,
} from '../../src/core/later.ts';
import { functionNameReason, isOwnFunction, LATER_FUNCTION } from '../../src/core/names.ts';

const NOW_MS = Date.parse('2026-06-01T12:00:00Z');

describe('the time of an event', () => {
  it.each<[string, When, number | undefined]>([
    ['nothing', {}, undefined],
    ['no delay', { delayMs: 0 }, undefined],
    ['a delay', { delayMs: 1 }, NOW_MS + 1],
    ['the longest delay', { delayMs: MAX_DELAY_MS }, NOW_MS + MAX_DELAY_MS],
    ['a Date', { at: new Date(NOW_MS + 5) }, NOW_MS + 5],
    ['a Date that is over', { at: new Date(NOW_MS - 5) }, undefined],
    ['this very moment', { at: new Date(NOW_MS) }, undefined],
    ['text', { at: '2026-06-01T12:00:01Z' }, NOW_MS + 1_000],
    ['text with a zone', { at: '2026-06-01T14:00:00.250+02:00' }, NOW_MS + 250],
    ['text that is over', { at: '1999-12-31T23:59:59Z' }, undefined],
  ])('may be %s', (_, when, dueMs) => {
    expect(dueMsOf(when, NOW_MS)).toBe(dueMs);
  });

  it('counts an option that is undefined as left out', () => {
    const when = { delayMs: undefined, at: undefined } as unknown as When;
    expect(dueMsOf(when, NOW_MS)).toBeUndefined();
  });

  it.each<[string, object, RegExp]>([
    ['both', { delayMs: 1, at: new Date(NOW_MS) }, /either delayMs or at/],
    ['a negative delay', { delayMs: -1 }, /integer from 0 .* not -1\./],
    ['no number', { delayMs: Number.NaN }, /not NaN\./],
    ['a fraction', { delayMs: 1.5 }, /not 1\.5\./],
    ['infinity', { delayMs: Number.POSITIVE_INFINITY }, /not Infinity\./],
    ['a delay that is too long', { delayMs: MAX_DELAY_MS + 1 }, /at most 366 days/],
    ['text as a delay', { delayMs: '5s' }, /delayMs must be an integer .* not "5s"\./],
    ['null', { delayMs: null }, /not of type null\./],
    ['an invalid Date', { at: new Date(Number.NaN) }, /Invalid Date/],
    ['a time too far ahead', { at: new Date(NOW_MS + MAX_DELAY_MS + 1) }, /at most 366 days ahead/],
    ['the last of all Dates', { at: new Date(8.64e15) }, /at most 366 days ahead/],
    ['text without a zone', { at: '2026-06-01T13:00:00' }, /with its zone/],
    ['a day that there is not', { at: '2027-02-30T00:00:00Z' }, /ISO 8601/],
    ['other text', { at: 'tomorrow' }, /not "tomorrow"\./],
    ['a number', { at: NOW_MS }, /must be a Date, or ISO 8601 text/],
  ])('may not be %s', (_, when, why) => {
    const refused = (): unknown => dueMsOf(when, NOW_MS);
    expect(refused).toThrow(why);
    expect(refused).toThrow(expect.objectContaining({ code: 'INVALID_INPUT' }) as MillraceError);
  });
});

describe('an event that was published', () => {
  const before = writePublished(NOW_MS, NOW_MS + 50, 600_000);
  it('is noted until its time is over', () => {
    expect(JSON.parse(before)).toEqual([NOW_MS + 600_050, NOW_MS, NOW_MS + 50]);
    expect(wasPublished(null, NOW_MS, NOW_MS)).toBe(false);
  });
  it('is the same for the same time, however late, and for two minutes for any time', () => {
    expect(wasPublished(before, NOW_MS, NOW_MS + 500_000)).toBe(true);
    expect(wasPublished(before, NOW_MS + 1, NOW_MS + 120_049)).toBe(true);
    expect(wasPublished(before, NOW_MS + 1, NOW_MS + 120_050)).toBe(false);
    // The clock was set back by an hour: it is a new event all the same, and the old one still the old one.
    expect(wasPublished(before, NOW_MS + 1, NOW_MS - 3_600_000)).toBe(false);
    expect(wasPublished(before, NOW_MS, NOW_MS - 3_600_000)).toBe(true);
  });
});

describe('an event that waits', () => {
  const headers = newHeaders();
  headers.set('Nats-Msg-Id', 'id *.> ä');
  headers.set('traceparent', '00-1-2-01');
  const payload = Buffer.from('{"a":1}');
  const event: PreparedEvent = { id: 'id *.> ä', subject: 'bank.x', payload, headers };

  it('tells the broker when, and where to', () => {
    const message = scheduled(event, NOW_MS + 1, 'ns');
    const token = tokenOf(event);
    expect(token).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(message.id).toBe(event.id);
    expect(message.subject).toBe(`ns.later.${token}`);
    expect(message.headers.get('Nats-Schedule')).toBe('@at 2026-06-01T12:00:00.001Z');
    expect(message.headers.get('Nats-Schedule-Target')).toBe(`ns.due.${token}`);
    expect(message.headers.get('Nats-Msg-Id')).toBe(token);
    expect([isScheduled(message, 'ns'), isScheduled(event, 'ns')]).toEqual([true, false]);
  });

  it('is the event that it was', () => {
    const message = scheduled(event, NOW_MS, 'ns');
    const given = Object.fromEntries(
      [...message.headers].map(([name, [value = '']]) => [name, value]),
    );
    const due = dueEvent(given, message.payload, 'ns');
    expect(due).toMatchObject({
      dueMs: NOW_MS,
      event: { id: event.id, subject: event.subject, payload },
    });
    expect(Object.fromEntries(due.event.headers)).toEqual(Object.fromEntries(headers));
  });

  it('has a place of its own for each id and subject', () => {
    const other = tokenOf({ id: event.id, subject: 'bank.y' });
    expect(new Set([tokenOf(event), other, tokenOf({ id: 'x', subject: 'bank.x' })]).size).toBe(3);
  });

  const later = (what: object): Record<string, string> => ({
    'Millrace-Later': JSON.stringify({
      id: 'x',
      subject: 'bank.x',
      dueMs: 1,
      headers: {},
      ...what,
    }),
  });
  it.each<[string, Record<string, string>]>([
    ['no header', {}],
    ['no JSON', { 'Millrace-Later': '{' }],
    ['other JSON', later({ id: 7 })],
    ['a subject of the platform’s', later({ subject: 'ns.due.x' })],
    ['a subject of the broker’s', later({ subject: '$JS.API.INFO' })],
    ['an id that is none', later({ id: 'a\r\nb' })],
    ['a header of the broker’s', later({ headers: { 'nats-rollup': 'all' } })],
  ])('is none where it has %s', (_, given) => {
    const refused = (): unknown => dueEvent(given, payload, 'ns');
    expect(refused).toThrow(expect.objectContaining({ code: 'INVALID_INPUT' }) as MillraceError);
  });
});

it('is published by a function whose name no user can give', () => {
  expect(functionNameReason(LATER_FUNCTION)).toBeDefined();
  expect([isOwnFunction(LATER_FUNCTION), isOwnFunction('later')]).toEqual([true, false]);
});
