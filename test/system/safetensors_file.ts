/** A reader of safetensors files, written from the format's description alone: header length, JSON header, data. */
import { z } from 'zod';

const tensorEntry = z.object({
  dtype: z.string(),
  shape: z.number().int().array(),
  data_offsets: z.tuple([z.number().int(), z.number().int()]),
});

export interface SafetensorsFile {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<
    string,
    { readonly dtype: string; readonly shape: readonly number[]; readonly bytes: Buffer }
  >;
}

export function readSafetensors(file: Buffer): SafetensorsFile {
  const headerLength = Number(file.readBigUInt64LE(0));
  const header = z.record(z.string(), z.unknown()).parse(JSON.parse(file.toString('utf8', 8, 8 + headerLength)));
  const { __metadata__: metadata = {}, ...entries } = header;
  const data = file.subarray(8 + headerLength);
  const tensors = Object.entries(entries).map(([name, entry]) => {
    const { dtype, shape, data_offsets } = tensorEntry.parse(entry);
    return [name, { dtype, shape, bytes: data.subarray(...data_offsets) }] as const;
  });
  return { metadata: z.record(z.string(), z.string()).parse(metadata), tensors: new Map(tensors) };
}
