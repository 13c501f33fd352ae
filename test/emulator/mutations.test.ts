import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";

interface Mutation {
  name: string;
  file: string;
  find: string;
  replace: string;
}

const folder = new URL("mutations/", import.meta.url);
const root = new URL("../../", import.meta.url);
const read = (path: string, from: URL): string => readFileSync(new URL(path, from), "utf8");
const files = readdirSync(folder).filter((file) => file.endsWith(".json"));

// `npm run test:mutations` plants them; this only says early that a kernel has moved on.
describe.each(files)("%s", (file) => {
  test.each(JSON.parse(read(file, folder)) as Mutation[])("$name", ({ file: source, find, replace }) => {
    expect(read(source, root).split(find)).toHaveLength(2);
    expect(replace).not.toBe(find);
  });
});
