import { Client, Connection } from '@temporalio/client';

/** One connection per program; `close` ends it. Retries the first connect for half a minute: programs start in any order. */
export async function connectTemporal(
  address: string,
  namespace: string,
): Promise<{ client: Client; close: () => Promise<void> }> {
  const connection = await Connection.connect({ address, connectTimeout: '30 seconds' });
  return { client: new Client({ connection, namespace }), close: () => connection.close() };
}
