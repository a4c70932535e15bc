/** Something has changed that a backup had yet to read (docs/backup.md, K4): it begins again. */
export class Removed extends Error {
  override readonly name = 'Removed';
}
