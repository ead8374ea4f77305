import { pino, type Logger } from 'pino';

export type { Logger };

/** One line per event: an event name, ids, fields with their units. Known secret fields never leave. */
export function createLogger(program: string, level = 'info'): Logger {
  return pino({
    name: program,
    level,
    base: { program },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    redact: {
      paths: [
        'authorization',
        'secret',
        'token',
        'headers.authorization',
        'headers["x-chutes-signature"]',
        'req.headers.authorization',
      ],
      censor: '[secret]',
    },
  });
}
