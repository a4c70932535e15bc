import type { Plugin } from 'esbuild';

/**
 * CommonJS packages use `require`, `__filename` and `__dirname`, which modules lack. All on one line; esbuild renames a
 * file's own `require`, and DEFINES replaces the other two only where a file has no variable of that name.
 */
export const BANNER = [
  "import { createRequire as __millraceCreateRequire } from 'node:module';",
  'const require = __millraceCreateRequire(import.meta.url),',
  '__millraceFile = import.meta.filename, __millraceFolder = import.meta.dirname;',
].join(' ');

export const DEFINES = { __filename: '__millraceFile', __dirname: '__millraceFolder' };

/** The running copy of millrace, whatever copy a function's own folder may hold: one process has one platform. */
export function runningCopy(packageEntry: string): Plugin {
  return {
    name: 'millrace-running-copy',
    setup(build) {
      build.onResolve({ filter: /^millrace(?:\/.*)?$/ }, ({ kind }) =>
        kind === 'require-call' || kind === 'require-resolve'
          ? { errors: [{ text: 'millrace is an ES module: use import instead of require' }] }
          : { path: packageEntry, external: true },
      );
    },
  };
}

/** A native add-on cannot be put into a bundle. */
export const refuseNative: Plugin = {
  name: 'millrace-refuse-native',
  setup(build) {
    build.onResolve({ filter: /\.node$/ }, ({ path }) => ({
      errors: [
        {
          text: `the native add-on ${path} cannot be bundled with a function; use a package without native code, or reach it through a service`,
        },
      ],
    }));
  },
};
