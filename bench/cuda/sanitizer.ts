export const sanitizerTools = ["memcheck", "racecheck", "initcheck", "synccheck"] as const;

/** What one tool of compute-sanitizer found. */
export interface SanitizerFindings {
  errors: number;
  /** Of racecheck: hazards that need not be errors. */
  warnings: number;
  /** The first lines that say what is wrong. */
  excerpt: string[];
}

const excerptLines = 40;

/** @returns undefined where the tool did not get as far as its summary. */
export function parseSanitizer(output: string): SanitizerFindings | undefined {
  const lines = output.split("\n").filter((line) => line.startsWith("========="));
  const counts = lines.flatMap((line) => {
    const race = /RACECHECK SUMMARY: .*\((\d+) errors?, (\d+) warnings?\)/.exec(line);
    if (race) return [{ errors: Number(race[1]), warnings: Number(race[2]) }];
    const error = /ERROR SUMMARY: (\d+) errors?\s*$/.exec(line);
    return error ? [{ errors: Number(error[1]), warnings: 0 }] : [];
  });
  if (counts.length === 0) return undefined;
  const errors = Math.max(...counts.map((count) => count.errors));
  const warnings = Math.max(...counts.map((count) => count.warnings));
  const excerpt = errors + warnings > 0 ? lines.slice(0, excerptLines) : [];
  return { errors, warnings, excerpt };
}
