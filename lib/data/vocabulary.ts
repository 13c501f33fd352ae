/** Vocabularies: the numbering of symbols (words or characters). */

import { ValueError } from "../errors.js";

export interface VocabularyOptions {
  /** Symbols that come first, in this order, however often they were counted. */
  readonly specials?: readonly string[];
  /** Symbol of the vocabulary that stands for every symbol outside it; without one, those are errors. */
  readonly unknown?: string | undefined;
}

/** Counts symbols, to build a {@link Vocabulary} from them. */
export class SymbolCounts {
  private readonly counts = new Map<string, number>();

  add(symbols: Iterable<string>): void {
    for (const symbol of symbols) this.counts.set(symbol, (this.counts.get(symbol) ?? 0) + 1);
  }

  has(symbol: string): boolean {
    return this.counts.has(symbol);
  }

  /** Specials first, then every counted symbol by falling count; ties keep the order of first appearance. */
  toVocabulary({ specials = [], unknown }: VocabularyOptions = {}): Vocabulary {
    const byCount = [...this.counts].sort(([, a], [, b]) => b - a).map(([symbol]) => symbol);
    return new Vocabulary([...new Set([...specials, ...byCount])], unknown);
  }
}

/** Plain JSON form of a vocabulary; the id of a symbol is its index. */
export interface VocabularyJson {
  readonly symbols: readonly string[];
  readonly unknown?: string;
}

export class Vocabulary {
  private readonly ids: ReadonlyMap<string, number>;

  /**
   * @param symbols Symbols by id, all different.
   * @throws {ValueError} if two symbols are equal or `unknown` is not among them.
   */
  constructor(
    readonly symbols: readonly string[],
    readonly unknown?: string,
  ) {
    this.ids = new Map(symbols.map((symbol, id) => [symbol, id]));
    if (this.ids.size !== symbols.length) throw invalid("holds a symbol twice");
    if (unknown !== undefined && !this.ids.has(unknown)) {
      throw invalid(`does not hold its unknown symbol ${JSON.stringify(unknown)}`);
    }
  }

  get size(): number {
    return this.symbols.length;
  }

  /** @throws {ValueError} naming the symbol and its position, if it is unknown and nothing stands for it. */
  encode(symbols: readonly string[]): Int32Array {
    const fallback = this.unknown === undefined ? undefined : this.ids.get(this.unknown);
    return Int32Array.from(symbols, (symbol, position) => {
      const id = this.ids.get(symbol) ?? fallback;
      if (id !== undefined) return id;
      const reason = `unknown symbol ${JSON.stringify(symbol)} at position ${position}`;
      throw new ValueError(
        "Vocabulary.encode",
        "symbols",
        reason,
        "use symbols the vocabulary was built from",
      );
    });
  }

  /** @throws {ValueError} if an id is outside the vocabulary. */
  decode(ids: ArrayLike<number>): string[] {
    return Array.from(ids, (id, position) => {
      const symbol = this.symbols[id];
      if (symbol !== undefined) return symbol;
      const reason = `id ${id} at position ${position} is outside [0, ${this.size})`;
      throw new ValueError("Vocabulary.decode", "ids", reason, "decode ids made with the same vocabulary");
    });
  }

  toJSON(): VocabularyJson {
    return this.unknown === undefined
      ? { symbols: this.symbols }
      : { symbols: this.symbols, unknown: this.unknown };
  }

  /** @throws {ValueError} if `json` is no vocabulary. */
  static fromJSON(json: unknown): Vocabulary {
    const { symbols, unknown } = (json ?? {}) as Partial<Record<"symbols" | "unknown", unknown>>;
    if (!Array.isArray(symbols) || !symbols.every((symbol) => typeof symbol === "string")) {
      throw invalid("has no list of symbols");
    }
    if (unknown !== undefined && typeof unknown !== "string")
      throw invalid("has an unknown symbol of the wrong type");
    return new Vocabulary(symbols, unknown);
  }
}

function invalid(reason: string): ValueError {
  return new ValueError("Vocabulary", "symbols", `the vocabulary ${reason}`, "build it with SymbolCounts");
}
