package volume

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// encoders and decoders hold idle zstd coders: one costs more to set up than a message to compress.
var (
	encoders sync.Pool
	decoders sync.Pool
)

func newEncoder() (*zstd.Encoder, error) {
	if e, ok := encoders.Get().(*zstd.Encoder); ok {
		return e, nil
	}
	// The chunk's header has a checksum and the record its lengths, so the frame needs neither.
	return zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true),
		zstd.WithWindowSize(chunkSize),
		zstd.WithLowerEncoderMem(true))
}

func newDecoder() (*zstd.Decoder, error) {
	if d, ok := decoders.Get().(*zstd.Decoder); ok {
		return d, nil
	}
	// The capacity of the destination is the limit: a frame that claims more is refused.
	return zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(maxChunkSize),
		zstd.WithDecoderMaxWindow(maxChunkSize),
		zstd.WithDecoderLowmem(true))
}

// encodeChunk gives a chunk with its header, compressed if that makes it shorter.
func encodeChunk(raw []byte) (*buffer, error) {
	e, err := newEncoder()
	if err != nil {
		return nil, fmt.Errorf("start zstd: %w", err)
	}
	out := newBuffer(chunkHeaderSize + len(raw) + 64)
	body := e.EncodeAll(raw, out.b[chunkHeaderSize:chunkHeaderSize])
	encoders.Put(e)
	word := uint32(len(body))
	if len(body) >= len(raw) {
		word = uint32(len(raw)) | chunkStoredRaw
		body = append(out.b[chunkHeaderSize:chunkHeaderSize], raw...)
	}
	out.b = out.b[:chunkHeaderSize+len(body)]
	binary.LittleEndian.PutUint32(out.b, word)
	binary.LittleEndian.PutUint32(out.b[4:], chunkChecksum(out.b[:4], out.b[chunkHeaderSize:]))
	return out, nil
}

// decodeChunk decompresses a chunk of raw message bytes into dst, which has room for them.
func decodeChunk(body, dst []byte, raw uint32) ([]byte, error) {
	d, err := newDecoder()
	if err != nil {
		return nil, fmt.Errorf("start zstd: %w", err)
	}
	defer decoders.Put(d)
	out, err := d.DecodeAll(body, dst[:0:raw])
	if err != nil {
		return nil, malformed("chunk does not decompress: " + err.Error())
	}
	if len(out) != int(raw) {
		return nil, malformed("chunk has another length than its record says")
	}
	return out, nil
}

// chunkChecksum covers the length word too, so that its flag is not taken on trust.
func chunkChecksum(word, body []byte) uint32 {
	return crc32.Update(checksum(word), table, body)
}
