// npm run build:gyp: the CPU build with node-gyp, for machines without CMake. Same sources, flags and result
// (build/Release/hyperrouter.node) as CMakeLists.txt, whose set(HR_...) lines it reads.
//
// binding.gyp is written to build/gyp, never to the package root, where npm would run it at every install. The
// source folders are linked in beside it: gyp names object files after source paths, so sources above the gyp
// file would end in one object file for all instruction sets.
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { cmakeList } from "../cmake-list.mjs";
import { CommandError, isMain, main, root, run } from "../command.mjs";
import { listFiles } from "../stamp.mjs";

const folder = join(root, "build", "gyp");
const isaLists = { x64: "HR_ISAS_X64", arm64: "HR_ISAS_ARM64" };

function sources(directory) {
  const files = listFiles(directory).filter((file) => dirname(file) === join(root, directory));
  return files.filter((file) => file.endsWith(".cpp")).map((file) => relative(root, file));
}

function bindingGyp() {
  const isas = cmakeList(isaLists[process.arch] ?? "HR_ISAS_OTHER");
  const kernels = isas.map((isa) => ({
    target_name: `kernels_${isa}`,
    type: "static_library",
    sources: sources("cpu/kernels"),
    defines: [`HR_ISA=${isa}`],
    cflags: cmakeList("HR_KERNEL_FLAGS"),
  }));
  const addon = {
    target_name: "hyperrouter",
    sources: [...sources("ops"), ...sources("cpu"), ...sources("binding")],
    dependencies: kernels.map((kernel) => kernel.target_name),
    "cflags!": ["-O3"], // node's default comes last and would win over -O2
    include_dirs: ["node_modules/node-addon-api"],
    defines: cmakeList("HR_ADDON_DEFINES"),
    ldflags: ["-Wl,--exclude-libs,ALL", "-s"],
  };
  const target_defaults = {
    include_dirs: [root],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
    cflags: cmakeList("HR_HOST_FLAGS"),
    cflags_cc: ["-std=c++20", "-fexceptions"],
  };
  return { target_defaults, targets: [...kernels, addon] };
}

/** A folder with include/node/node.h; node-gyp would otherwise download the headers. */
function nodeDirectory() {
  const candidates = [process.env.npm_config_nodedir, join(dirname(process.execPath), "..")];
  const found = candidates.find((path) => path && existsSync(join(path, "include", "node", "node.h")));
  if (found) return found;
  throw new CommandError(
    `Node's headers (include/node/node.h) are not beside ${process.execPath}, and the gyp build downloads nothing.\n` +
      "Install Node with its headers, or run: npm_config_nodedir=/path/to/node npm run build:gyp\n" +
      "Or install CMake, which needs no headers, and run: npm run build:native",
  );
}

export function buildWithGyp() {
  const nodedir = nodeDirectory();
  mkdirSync(folder, { recursive: true });
  for (const name of ["ops", "cpu", "binding", "node_modules"]) {
    rmSync(join(folder, name), { force: true });
    symlinkSync(join(root, name), join(folder, name), "dir");
  }
  writeFileSync(join(folder, "binding.gyp"), JSON.stringify(bindingGyp(), null, 2));
  writeFileSync(join(folder, "package.json"), "{}\n");
  const nodeGyp = join(root, "node_modules", "node-gyp", "bin", "node-gyp.js");
  const args = [nodeGyp, "configure", "build", "--release", "--jobs=max", `--nodedir=${nodedir}`];
  if (run(process.execPath, args, { cwd: folder }) !== 0) {
    throw new CommandError("node-gyp failed. Fix the error above, then run: npm run build:gyp");
  }
  const release = join(root, "build", "Release");
  mkdirSync(release, { recursive: true });
  // Rename, never overwrite: a running process may have the old file mapped.
  const target = join(release, "hyperrouter.node");
  copyFileSync(join(folder, "build", "Release", "hyperrouter.node"), `${target}.new`);
  renameSync(`${target}.new`, target);
}

if (isMain(import.meta.url)) await main(buildWithGyp);
