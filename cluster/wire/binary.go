package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/hashicorp/raft"
)

func putUint(b []byte, values ...uint64) []byte {
	for _, v := range values {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func putBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func flags(bits ...bool) uint8 {
	var f uint8
	for i, on := range bits {
		if on {
			f |= 1 << i
		}
	}
	return f
}

func putRaftHeader(b []byte, kind uint8, h raft.RPCHeader) []byte {
	b = append(b, RaftVersion, kind)
	b = putUint(b, uint64(h.ProtocolVersion))
	return putBytes(putBytes(b, h.ID), h.Addr)
}

// decoder takes values off the front of b. After its first error it yields zero values only.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
	d.b = nil
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("bad number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("bad number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// small is a number that is going to be an int.
func (d *decoder) small() int {
	v := d.uint()
	if v > 1<<15 {
		d.fail("number %d is too large", v)
		return 0
	}
	return int(v)
}

func (d *decoder) byte() uint8 {
	if len(d.b) == 0 {
		d.fail("short")
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// flags reads a byte of which only the low n bits may be set.
func (d *decoder) flags(n int) uint8 {
	f := d.byte()
	if f>>n != 0 {
		d.fail("unknown flags %#x", f)
	}
	return f
}

// bytes shares memory with the input, capacity cut so that an append cannot reach what follows.
func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail("%d bytes wanted, %d left", n, len(d.b))
		return nil
	}
	if n == 0 {
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) raftHeader(kind uint8) raft.RPCHeader {
	d.kind(kind)
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersion(d.small()), ID: d.bytes(), Addr: d.bytes()}
}

// kind reads the two bytes with which every Raft message begins.
func (d *decoder) kind(kind uint8) {
	if v := d.byte(); v != RaftVersion && d.err == nil {
		d.fail("Raft message version %d, want %d", v, RaftVersion)
	}
	if k := d.byte(); k != kind && d.err == nil {
		d.fail("Raft message kind %d, want %d", k, kind)
	}
}
