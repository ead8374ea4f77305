import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

export type GatewayMetrics = ReturnType<typeof createGatewayMetrics>;

/** What an operator watches; labels have few values, never an id. */
export function createGatewayMetrics(facts: { routingAgeMs: () => number | null; isSpoolHealthy: () => boolean }) {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const buckets = [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60];
  const age = new Gauge({
    name: 'canopy_gateway_routing_age_seconds',
    help: 'Since the routing table was last read whole',
    registers: [],
  });
  const spool = new Gauge({
    name: 'canopy_gateway_spool_healthy',
    help: '0 while the disk refuses usage records',
    registers: [],
  });
  registry.registerMetric(age);
  registry.registerMetric(spool);
  return {
    registry,
    requests: new Counter({
      name: 'canopy_gateway_requests_total',
      help: 'Requests by target and status',
      labelNames: ['target', 'status'],
      registers,
    }),
    attempts: new Counter({
      name: 'canopy_gateway_attempts_total',
      help: 'Attempts at instances by outcome',
      labelNames: ['outcome'],
      registers,
    }),
    refusals: new Counter({
      name: 'canopy_gateway_refusals_total',
      help: 'Calls refused for a limit',
      labelNames: ['code'],
      registers,
    }),
    firstByte: new Histogram({
      name: 'canopy_gateway_first_byte_seconds',
      help: 'From attempt to first byte',
      registers,
      buckets,
    }),
    loaded: new Counter({
      name: 'canopy_gateway_records_loaded_total',
      help: 'Usage records stored in Postgres',
      registers,
    }),
    render: (): Promise<string> => {
      age.set((facts.routingAgeMs() ?? Number.NaN) / 1000);
      spool.set(facts.isSpoolHealthy() ? 1 : 0);
      return registry.metrics();
    },
  };
}
