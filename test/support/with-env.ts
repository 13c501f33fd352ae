/** Runs `fn` with environment variables set, and puts them back. */
export function withEnv(variables: Record<string, string>, fn: () => void): void {
  const before = { ...process.env };
  Object.assign(process.env, variables);
  try {
    fn();
  } finally {
    for (const name of Object.keys(variables)) {
      if (before[name] === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = before[name];
    }
  }
}
