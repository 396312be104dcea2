package volume

import (
	"hash/crc32"

	"github.com/klauspost/compress/zstd"

	"hongyan/engine/recode"
)

// encoder and decoder are shared by the package: each holds as many coders as there are processors, and
// whoever finds none free waits for one. They are made before anything runs, and used only through
// EncodeAll and DecodeAll, which keep nothing of one message for the next.
var (
	encoder = newEncoder()
	decoder = newDecoder()
)

// newEncoder makes an encoder; the options are a dictionary that has been looked at, or none.
func newEncoder(more ...zstd.EOption) *zstd.Encoder {
	// The chunk's header has a checksum and the record its lengths, so the frame needs neither.
	e, err := zstd.NewWriter(nil, append([]zstd.EOption{
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true),
		zstd.WithWindowSize(chunkSize),
		zstd.WithLowerEncoderMem(true)}, more...)...)
	if err != nil {
		panic("volume: zstd encoder: " + err.Error()) // these constant options are wrong
	}
	e.EncodeAll([]byte{0}, nil) // sets up what EncodeAll would set up in its first caller
	return e
}

// newDecoder is newEncoder's counterpart.
func newDecoder(more ...zstd.DOption) *zstd.Decoder {
	// The capacity of the destination is the limit: a frame that claims more is refused.
	d, err := zstd.NewReader(nil, append([]zstd.DOption{
		zstd.WithDecoderConcurrency(0),
		zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(maxChunkSize),
		zstd.WithDecoderMaxWindow(maxChunkSize),
		zstd.WithDecoderLowmem(true)}, more...)...)
	if err != nil {
		panic("volume: zstd decoder: " + err.Error()) // these constant options are wrong
	}
	return d
}

// encodeChunk gives a chunk with its header: without its base64, compressed, with d if it is not nil, if that makes it shorter.
func encodeChunk(raw []byte, d *Dictionary) *buffer {
	scratch := newBuffer(len(raw))
	defer scratch.release()
	source, h := raw, chunkHeader{}
	if coded, ok := recode.Encode(scratch.b, raw); ok {
		source, h.recoded = coded, true
	}
	out := newBuffer(chunkHeaderSize + len(raw) + 64)
	with := encoder
	if d != nil {
		with = d.encoder()
	}
	body := with.EncodeAll(source, out.b[chunkHeaderSize:chunkHeaderSize])
	if len(body) >= len(raw) {
		h = chunkHeader{plain: true}
		body = append(out.b[chunkHeaderSize:chunkHeaderSize], raw...)
	}
	h.size = uint32(len(body))
	out.b = out.b[:chunkHeaderSize+len(body)]
	h.encode(out.b, body)
	return out
}

// overrun is room that lets the decoder copy in strides; it is never part of the result.
const overrun = 16

// decodeChunk decompresses a chunk of raw message bytes with its own decoder into dst, which has room for them and the overrun.
func decodeChunk(own *zstd.Decoder, body, dst []byte, raw uint32, recoded bool) ([]byte, error) {
	if recoded {
		return decodeRecoded(own, body, dst, raw)
	}
	out, err := own.DecodeAll(body, dst[:0:int(raw)+overrun])
	if err != nil {
		return nil, malformed("chunk does not decompress: " + err.Error())
	}
	if len(out) != int(raw) {
		return nil, malformed("chunk has another length than its record says")
	}
	return out, nil
}

// decodeRecoded decompresses a chunk, and puts the base64 back that was taken out of it.
func decodeRecoded(own *zstd.Decoder, body, dst []byte, raw uint32) ([]byte, error) {
	scratch := newBuffer(int(raw) + overrun)
	defer scratch.release()
	coded, err := own.DecodeAll(body, scratch.b[:0:int(raw)+overrun])
	if err != nil {
		return nil, malformed("chunk does not decompress: " + err.Error())
	}
	out, err := recode.Decode(dst[:0], coded, int(raw))
	if err != nil {
		return nil, malformed("chunk without its base64: " + err.Error())
	}
	return out, nil
}

// chunkChecksum covers the length word too, so that its flag is not taken on trust.
func chunkChecksum(word, body []byte) uint32 {
	return crc32.Update(checksum(word), table, body)
}
