/** Golden images: names to immutable generations; reading, writing, updating, making and removing them. */
export { beginWrite, type Candidate } from './candidate.ts';
export { bridge, type Bridge, type Verdict } from './bridge.ts';
export { highestFence } from './claim.ts';
export { collect, defaultKeep } from './collect.ts';
export { createImage, replaceImage, type CreateRequest, type CreateTools } from './create.ts';
export type { FenceSource, WriteLease } from './fence-source.ts';
export type { ImageStore } from './layout.ts';
export { localLeases } from './local-lease.ts';
export { noteUpdate, type Looked } from './looked.ts';
export { pinGeneration, reapPins, type Pin, type Pinned } from './pins.ts';
export type { PublishDetails, Writer } from './publish.ts';
export { refOf, type GenerationRecord, type Recipe } from './record.ts';
export { rollBack } from './roll-back.ts';
export { listImages, showImage, type GenerationDetails, type ImageDetails, type ImageSummary } from './show.ts';
export { imageSource, type ImageSourceOptions } from './source.ts';
export { imageNames, readHead } from './store.ts';
export { updateImage, type GoldenSession, type UpdateRequest, type UpdateResult } from './update.ts';
export { verifyGeneration } from './verify-generation.ts';
