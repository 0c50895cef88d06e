export { crc32c } from './crc32c.ts';
export type { DiskReader, DiskSink } from './disk.ts';
export { alignExtents, normalizeExtents, subtractExtents, totalBytes, type Extent } from './extent.ts';
export {
  descriptorSizeBytes,
  encodeVmdkDescriptor,
  parseVmdkDescriptor,
  type VmdkDescriptor,
} from './vmdk-descriptor.ts';
