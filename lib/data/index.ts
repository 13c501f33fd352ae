export { type BatchCursor, type LmBatch, LmBatches, type LmBatchOptions } from "./batches.js";
export {
  type Corpus,
  corpusNames,
  type CorpusName,
  type CorpusOptions,
  loadCorpus,
  type PreparedFiles,
} from "./corpora.js";
export { fitTokenizer, type TokenKind, tokenKinds } from "./fit-tokenizer.js";
export { type LabelledSentence, parseSst2, sst2Format } from "./sst2.js";
export type { TextFormat, TextFormatJson, TextUnit, WordFormatOptions } from "./text-format.js";
export { fileText, type TextSource } from "./text-source.js";
export { TokenFile, writeTokenFile } from "./token-file.js";
export { MemoryTokens, type TokenArray, type TokenSource } from "./token-source.js";
export {
  ByteTokenizer,
  SymbolTokenizer,
  type TokenDecoder,
  type Tokenizer,
  tokenizerFromJson,
  type TokenizerJson,
} from "./tokenizer.js";
export { Vocabulary, type VocabularyJson } from "./vocabulary.js";
