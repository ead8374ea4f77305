/**
 * Transport `canopy/1` between gateway and instance: TLS 1.3, the instance's self-signed certificate pinned by the
 * SHA-256 of its DER at the claim, `Authorization: Bearer <session secret>`, method, path, body and stream verbatim.
 *
 * The runtime answers 401 without the secret, 429 `{"error":"RateLimitExceeded","detail":…}` past its concurrency,
 * 503 `{"error":"Draining","detail":…}` once SIGTERM arrived, 502 when the child did not answer. What it says itself
 * carries `RUNTIME_HEADER: refused`; anything else is the child's own answer, whatever its status.
 */
export const CANOPY_TRANSPORT = 'canopy/1';

/** Added by the gateway to every forwarded request; the runtime logs it. */
export const REQUEST_ID_HEADER = 'x-canopy-request-id';

/** On every refusal of the runtime itself, and never on an answer of the child. */
export const RUNTIME_HEADER = 'x-canopy-runtime';
export const RUNTIME_REFUSED = 'refused';

/** Paths the runtime answers itself, never forwarded from outside by the gateway. */
export const INSTANCE_PATHS = {
  /** bearer; 200 `{"ready":true,"in_flight":n,"concurrency":n,"draining":false}` once the child answers */
  health: '/_canopy/health',
  /** loopback or private callers only; Prometheus text (spec/sdk-and-runtime.md §3.18) */
  metrics: '/_metrics',
} as const;

/** Internal ports of an instance: what `port_mappings[].internal_port` names (spec/validator-api.md §2.6.2). */
export const INSTANCE_PORT = 8000;
export const INSTANCE_LOG_PORT = 8001;
