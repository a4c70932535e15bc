import type { BuildOptions, Plugin } from 'esbuild';

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

/** Packages by which others look for their native add-on: from a bundle they would look in vain, with a word that helps nobody. */
const LOADERS = /^(?:bindings|node-gyp-build(?:-optional-packages)?|(?:@mapbox\/)?node-pre-gyp)$/;
const INSTEAD = 'use a package without native code, or reach it through a service';

/**
 * A native add-on cannot be put into a bundle. One that is looked for while the code runs fails then, so that a package which can do
 * without it does.
 */
export const refuseNative: Plugin = {
  name: 'millrace-refuse-native',
  setup(build) {
    build.onResolve({ filter: /\.node$/ }, ({ path }) => ({
      errors: [{ text: `the native add-on ${path} cannot be bundled with a function; ${INSTEAD}` }],
    }));
    const namespace = 'millrace-native';
    build.onResolve({ filter: LOADERS }, ({ importer }) => {
      const [, name = 'a module'] =
        /.*[\\/]node_modules[\\/]((?:@[^\\/]+[\\/])?[^\\/]+)/.exec(importer) ?? [];
      return { path: name, namespace };
    });
    build.onLoad({ filter: /.*/, namespace }, ({ path }) => {
      const text = `${path} has a native add-on, which cannot be bundled with a function; ${INSTEAD}`;
      return { contents: `throw new Error(${JSON.stringify(text)});`, loader: 'js' };
    });
  },
};

/** Of every build: what is deployed is built as what runs from a folder. */
export const BUILD_OPTIONS = {
  write: false,
  metafile: true,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  sourcemap: 'linked',
  sourcesContent: true,
  banner: { js: BANNER },
  define: DEFINES,
  logLevel: 'silent',
  logLimit: 0,
} as const satisfies BuildOptions;
