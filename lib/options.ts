import { ConfigError } from "./errors.js";

/** The candidate nearest to a misspelled word, if one is near: two slips, or a third of a long word's letters. */
export function suggest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(word.length > 3 ? 2 : 1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** The error for a key that does not exist: says what was probably meant, else what there is. */
export function unknownKey(key: string, value: unknown, known: readonly string[]): ConfigError {
  const meant = suggest(key, known);
  return new ConfigError(
    key,
    value,
    `unknown option "${key}"`,
    meant === undefined ? `use one of ${known.join(", ")}` : `did you mean "${meant}"?`,
  );
}

/** @throws {ConfigError} for the first key of `options` that is not in `known`. */
export function rejectUnknownKeys(options: object, known: readonly string[]): void {
  for (const [key, value] of Object.entries(options)) {
    if (!known.includes(key)) throw unknownKey(key, value, known);
  }
}

/** @throws {ConfigError} unless `value` is one of `choices`: says what was probably meant, else what there is. */
export function checkChoice<T extends string>(key: string, value: string, choices: readonly T[]): T {
  const choice = choices.find((name) => name === value);
  if (choice !== undefined) return choice;
  const meant = suggest(value, choices);
  throw new ConfigError(
    key,
    value,
    `"${key}" is "${value}"`,
    meant === undefined ? `use one of ${choices.join(", ")}` : `did you mean "${meant}"?`,
  );
}

/** @throws {ConfigError} unless `value` is an integer with `low <= value <= high`. */
export function checkInteger(key: string, value: number, low: number, high = Infinity): void {
  if (Number.isSafeInteger(value) && value >= low && value <= high) return;
  const range =
    high === Infinity
      ? `an integer of ${String(low)} or more`
      : `an integer from ${String(low)} to ${String(high)}`;
  throw new ConfigError(key, value, `"${key}" is ${String(value)}`, `use ${range}`);
}

/** @throws {ConfigError} unless `0 <= value < 1`. */
export function checkProbability(key: string, value: number): void {
  if (value >= 0 && value < 1) return;
  throw new ConfigError(key, value, `"${key}" is ${String(value)}`, `use 0 <= ${key} < 1`);
}

/** Levenshtein distance: insertions, deletions and substitutions. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substituted, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
