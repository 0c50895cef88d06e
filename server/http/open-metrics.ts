/** One metric with its samples, for `encodeMetrics`. */
export interface MetricFamily {
  /** Without a unit's or type's suffix being added: as it is to appear. */
  name: string;
  help: string;
  samples: readonly { labels?: Record<string, string>; value: number }[];
}

export const OPEN_METRICS_TYPE = 'application/openmetrics-text; version=1.0.0; charset=utf-8';

/** Text of gauges in the OpenMetrics format 1.0, which Prometheus reads. */
export function encodeMetrics(families: readonly MetricFamily[]): string {
  const lines: string[] = [];
  for (const { name, help, samples } of families) {
    lines.push(`# TYPE ${name} gauge`, `# HELP ${name} ${escapeText(help)}`);
    for (const { labels = {}, value } of samples) {
      const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeText(text)}"`);
      lines.push(`${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}`);
    }
  }
  return `${lines.join('\n')}\n# EOF\n`;
}

/** Names come from hosts and people: what could end a label or a line is escaped. */
function escapeText(text: string): string {
  return text.toWellFormed().replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
