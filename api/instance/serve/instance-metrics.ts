import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

const MOST_FUNCTIONS = 64;

/** The three series miners score and audit by (spec/sdk-and-runtime.md §3.18), and what an operator looks at first. */
export function createInstanceMetrics({ chuteId, inFlight }: { chuteId: () => string; inFlight: () => number }) {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const labelNames = ['chute_id', 'function', 'status'];
  const total = new Counter({
    name: 'invocation_total',
    help: 'Invocations by outcome',
    labelNames,
    registers: [registry],
  });
  const duration = new Histogram({
    name: 'invocation_duration',
    help: 'Seconds from request head to the last byte of the answer',
    labelNames,
    registers: [registry],
    buckets: [0.01, 0.05, 0.25, 1, 5, 15, 60, 300, 1800],
  });
  const last = new Gauge({
    name: 'invocation_last_timestamp',
    help: 'Unix seconds of the last invocation',
    labelNames: ['chute_id', 'function'],
    registers: [registry],
  });
  const rejected = new Counter({
    name: 'canopy_instance_rejected_total',
    help: 'Requests the runtime answered itself',
    labelNames: ['status'],
    registers: [registry],
  });
  registry.registerMetric(
    new Gauge({
      name: 'canopy_instance_in_flight',
      help: 'Requests the chute is working on',
      registers: [],
      collect() {
        this.set(inFlight());
      },
    }),
  );
  const functions = new Set<string>();
  /** Paths are the caller's: without a bound they would fill the memory with series. */
  const functionOf = (path: string): string => {
    const name =
      path
        .split('?')[0]
        ?.replace(/^\/+/, '')
        .replace(/[^a-zA-Z0-9_/-]/g, '_')
        .slice(0, 64) || 'root';
    if (!functions.has(name) && functions.size >= MOST_FUNCTIONS) return 'other';
    functions.add(name);
    return name;
  };
  return {
    registry,
    rejected: (status: number): void => rejected.inc({ status: String(status) }),
    invoked: ({ path, status, seconds }: { path: string; status: number; seconds: number }): void => {
      // An unknown path is no function of the chute: its name would only take the place of one.
      const labels = { chute_id: chuteId(), function: status === 404 ? 'other' : functionOf(path) };
      const outcome = status < 400 ? '200' : status >= 500 ? '500' : String(status);
      total.inc({ ...labels, status: outcome });
      duration.observe({ ...labels, status: outcome }, seconds);
      last.set(labels, Math.floor(Date.now() / 1000));
    },
  };
}
export type InstanceMetrics = ReturnType<typeof createInstanceMetrics>;
