/**
 * What the chute's own program may know: the image's variables, its secrets, where to listen; nothing of the launch.
 * Everything of the launch is named `CANOPY_…` or `CHUTES_…`, so those go, whoever set them; secrets cannot bring them
 * back, nor move the port.
 */
export function childEnvironment({
  env,
  secrets,
  port,
}: {
  env: NodeJS.ProcessEnv;
  secrets: Record<string, string>;
  port: number;
}): NodeJS.ProcessEnv {
  const inherited = Object.entries(env).filter(([name]) => !isOfTheLaunch(name));
  const own = Object.entries(secrets).filter(([name]) => !isOfTheLaunch(name));
  return {
    ...Object.fromEntries(inherited),
    ...Object.fromEntries(own),
    CHUTES_EXECUTION_CONTEXT: 'REMOTE',
    PORT: String(port),
    HOST: '127.0.0.1',
    PYTHONUNBUFFERED: '1', // without it the log of a Python chute comes 8 KiB late
  };
}

const isOfTheLaunch = (name: string): boolean => /^(CANOPY|CHUTES)_/i.test(name);
