/**
 * Metrics as Prometheus reads them. What there is to say is counted elsewhere already and only written down here, when somebody asks:
 * a registry that counts by itself would count everything twice.
 */
export type MetricType = 'counter' | 'gauge' | 'histogram';

export interface MetricDefinition {
  readonly type: MetricType;
  readonly help: string;
  readonly labels: readonly string[];
}

export type MetricCatalog = Readonly<Record<string, MetricDefinition>>;

export type Labels = Readonly<Record<string, string | number>>;

/** Upper bounds, ascending, each with how many lie at or below it; `Infinity` is `count`. */
export interface HistogramSample {
  readonly buckets: readonly (readonly [upTo: number, count: number])[];
  readonly sum: number;
  readonly count: number;
}

/** How a scrape is told of what there is; `Name`: those of a catalog. */
export type AddSample<Name extends string> = (
  name: Name,
  value: number | HistogramSample,
  labels?: Labels,
) => void;

export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/**
 * What `collect` adds, in the exposition format, version 0.0.4: metrics in the order of the catalog, those without a sample left out.
 */
export async function metricsText<Catalog extends MetricCatalog>(
  catalog: Catalog,
  collect: (add: AddSample<keyof Catalog & string>) => void | Promise<void>,
): Promise<string> {
  const samples = new Map<string, string[]>();
  await collect((name, value, labels = {}) => {
    const lines = samples.get(name) ?? [];
    lines.push(...linesOf(name, labels, value));
    samples.set(name, lines);
  });
  const lines: string[] = [];
  for (const [name, { type, help }] of Object.entries(catalog)) {
    const own = samples.get(name);
    if (own === undefined) continue;
    lines.push(`# HELP ${name} ${help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}`);
    lines.push(`# TYPE ${name} ${type}`, ...own);
  }
  return `${lines.join('\n')}\n`;
}

function linesOf(name: string, labels: Labels, value: number | HistogramSample): string[] {
  if (typeof value === 'number') return [line(name, labels, value)];
  const { buckets, sum, count } = value;
  return [
    ...buckets.map(([le, below]) => line(`${name}_bucket`, { ...labels, le }, below)),
    line(`${name}_bucket`, { ...labels, le: '+Inf' }, count),
    line(`${name}_sum`, labels, sum),
    line(`${name}_count`, labels, count),
  ];
}

function line(name: string, labels: Labels, value: number): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text)}"`);
  const of = pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
  return `${name}${of} ${Number.isFinite(value) ? value : 'NaN'}`;
}

function escaped(text: string | number): string {
  return String(text).replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
