/** Reads a backup to its end, and says what is in it. */
import { readFrames, unreadable, type BackupContent, type StreamFrame } from './format.ts';

/** Throws BACKUP_UNREADABLE. */
export async function checkBackup(file: string): Promise<BackupContent> {
  const { content } = await lookThrough(file);
  return content;
}

export interface LookedThrough {
  content: BackupContent;
  streams: StreamFrame['config'][];
  buckets: string[];
}

/** Throws BACKUP_UNREADABLE. */
export async function lookThrough(file: string): Promise<LookedThrough> {
  let content: BackupContent | undefined;
  const events: Record<string, number> = {};
  const streams: LookedThrough['streams'] = [];
  const buckets = new Set<string>();
  for await (const frame of readFrames(file)) {
    if (frame.kind === 'head') {
      const { at, namespace, partitions } = frame;
      content = { at, namespace, partitions, keys: 0, events, deployedFiles: 0 };
    } else if (content === undefined) break;
    else if (frame.kind === 'partition') content.keys += frame.keys;
    else if (frame.kind === 'stream') {
      events[frame.config.name] = frame.state.messages;
      streams.push(frame.config);
    } else if (frame.kind === 'entry' || frame.kind === 'object') {
      if (frame.kind === 'object') content.deployedFiles += 1;
      buckets.add(frame.bucket);
    }
  }
  if (content === undefined) throw unreadable(file, 'it is no backup');
  return { content, streams, buckets: [...buckets] };
}
