import { execFile } from 'node:child_process';
import { access, copyFile, mkdir, mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

const SIZE = '1G';
/** Of a broker's store. */
const LOCK = 'broker.pid';
/** The file system's own writes may come in between. */
const MAX_COPIES = 10;

/** It takes the rights to mount, and a loop device. Gives why not; undefined where it can be done. */
export async function whyNoDisk(): Promise<string | undefined> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'only root can mount';
  const missing = await access('/dev/loop-control').then(
    () => false,
    () => true,
  );
  return missing ? 'there is no loop device' : undefined;
}

/**
 * A file system of its own on an image, whose power can be cut: what was written and not synced is gone, as after a power cut of a
 * machine. The image is copied while the file system is mounted: only what was synced, or written back by the kernel by itself, has reached
 * it. It does not show disks that lie about what they have written, nor those that tear a block.
 */
export class Disk {
  readonly directory: string;
  readonly #image: string;
  readonly #around: string;

  private constructor(around: string) {
    this.#around = around;
    this.#image = join(around, 'image');
    this.directory = join(around, 'mounted');
  }

  static async open(): Promise<Disk> {
    const disk = new Disk(await mkdtemp(join(tmpdir(), 'millrace-disk-')));
    await mkdir(disk.directory);
    await run('truncate', ['-s', SIZE, disk.#image]);
    await run('mkfs.ext4', ['-q', '-F', disk.#image]);
    await disk.#mount();
    return disk;
  }

  /** `pids`: all that write there; they are stopped, and then ended by `kill`. */
  async cutPower(pids: readonly number[], kill: () => Promise<void>): Promise<void> {
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    const kept = join(this.#around, 'kept');
    await this.#copyAtRest(kept);
    await kill();
    // What this writes goes to the image that nobody will see again.
    await this.#unmount();
    await rename(kept, this.#image);
    await this.#mount();
    // They name processes that would be gone with the machine, and live here.
    for (const path of await readdir(this.directory, { recursive: true })) {
      if (path.endsWith(LOCK)) await rm(join(this.directory, path));
    }
  }

  async close(): Promise<void> {
    await this.#unmount();
    await rm(this.#around, { recursive: true, force: true });
  }

  /** A copy of one moment: while it was made nothing was written. */
  async #copyAtRest(to: string): Promise<void> {
    for (let copies = 0; copies < MAX_COPIES; copies += 1) {
      const before = await stat(this.#image, { bigint: true });
      await copyFile(this.#image, to);
      const after = await stat(this.#image, { bigint: true });
      if (before.mtimeNs === after.mtimeNs) return;
    }
    throw new Error('the image was written all the time');
  }

  async #mount(): Promise<void> {
    await run('mount', ['-o', 'loop', this.#image, this.directory]);
  }

  async #unmount(): Promise<void> {
    await run('umount', [this.directory]);
  }
}
