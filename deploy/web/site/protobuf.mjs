// Just enough of the protobuf wire format to read a SentencePiece model. Source: protobuf.dev, "Encoding".

/** Return {field number: its values in order}: numbers (varint) or Uint8Array (bytes, message, 4 or 8 bytes fixed). */
export function fieldsOf(bytes) {
  const fields = new Map();
  let at = 0;
  const varint = () => {
    let [value, scale] = [0, 1]; // not shifts: a value may exceed 32 bits
    for (;;) {
      if (at >= bytes.length) throw new Error("not a protobuf message: it ends within a number");
      const byte = bytes[at++];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
  };
  const take = (length) => {
    if (at + length > bytes.length) throw new Error("not a protobuf message: it ends within a field");
    return bytes.subarray(at, (at += length));
  };
  while (at < bytes.length) {
    const key = varint();
    const [number, wire] = [Math.floor(key / 8), key % 8];
    const read = {0: varint, 1: () => take(8), 2: () => take(varint()), 5: () => take(4)}[wire];
    if (!read) throw new Error(`not a protobuf message: wire type ${wire}`);
    if (!fields.has(number)) fields.set(number, []);
    fields.get(number).push(read());
  }
  return fields;
}

/** Return a string field's text. */
export const textOf = (bytes) => new TextDecoder("utf-8", {ignoreBOM: true}).decode(bytes);

/** Return a float field's number. */
export const floatOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, 4).getFloat32(0, true);
