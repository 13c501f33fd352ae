import { spawnSync } from "node:child_process";

/** The command of a Python that has these modules; undefined where there is none. */
export function pythonWith(...modules: string[]): string | undefined {
  return ["python3", "/usr/bin/python3"].find(
    (command) => spawnSync(command, ["-c", `import ${modules.join(", ")}`]).status === 0,
  );
}
