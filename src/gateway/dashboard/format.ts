/** Numbers and times as people read them. */
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

const COMPACT_FROM = 100_000;

export function count(value: number): string {
  return value >= COMPACT_FROM ? compact.format(value) : whole.format(value);
}

/** Of things in a second. */
export function rate(perSecond: number): string {
  if (perSecond === 0) return '0';
  return perSecond < 10 ? perSecond.toFixed(1) : count(perSecond);
}

export function percent(share: number): string {
  return `${whole.format(share * 100)} %`;
}

export function duration(ms: number): string {
  if (ms === 0) return '0 ms';
  if (ms < 0.1) return `${(ms * 1_000).toFixed(0)} µs`;
  if (ms < 10) return `${ms.toFixed(ms < 1 ? 2 : 1)} ms`;
  if (ms < 1_000) return `${ms.toFixed(0)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  return age(ms);
}

/** In its two largest units. */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const [minutes, hours, days] = [60, 3_600, 86_400].map((unit) => Math.floor(seconds / unit));
  if (days) return `${days} d ${(hours ?? 0) % 24} h`;
  if (hours) return `${hours} h ${(minutes ?? 0) % 60} min`;
  if (minutes) return `${minutes} min ${seconds % 60} s`;
  return `${seconds} s`;
}

export function ago(time: string | number, now: number): string {
  const ms = now - new Date(time).getTime();
  return ms < 2_000 ? 'just now' : `${age(ms)} ago`;
}

export function bytes(value: number): string {
  if (value < 1_024) return `${value} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  const at = Math.min(units.length, Math.floor(Math.log2(value) / 10));
  return `${(value / 1_024 ** at).toFixed(1)} ${units[at - 1]}`;
}

/** Ids are long and differ at their ends. */
export function short(id: string): string {
  return id.length <= 12 ? id : `…${id.slice(-8)}`;
}

export function clock(time: string | number): string {
  return new Date(time).toLocaleTimeString('en-GB');
}

export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** As it would be written by hand; what cannot be is shown as text. */
export function pretty(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value) : (JSON.stringify(value, null, 2) ?? '');
}
