package volume

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"hongyan/engine/codec"
)

// An index file says where the records of a sealed volume begin, so that opening the volume reads none of them. It is made
// from the volume and can be made again: one that is missing, damaged or of another state of the volume is not used.
const (
	indexSuffix     = ".idx"
	indexMagic      = "HYrecidx"
	indexVersion    = 1
	indexBlockSize  = 4096 // of the header and of each block of positions
	indexFixed      = 24
	positionsInside = indexBlockSize/4 - 1 // in a block, behind its checksum

	// maxDictionaries is the most dictionary records that an index file has room to name.
	maxDictionaries = 256
)

// indexFields describe the state of the volume that an index file is about.
type indexFields struct {
	Volume     ID     `cbor:"1,keyasint"`
	Generation uint32 `cbor:"2,keyasint,omitempty"`
	Seed       uint32 `cbor:"3,keyasint"`           // the volume file's checksum
	Length     int64  `cbor:"4,keyasint"`           // of the volume file
	Highest    uint64 `cbor:"5,keyasint,omitempty"` // record number: there are so many positions
	Found      uint64 `cbor:"6,keyasint,omitempty"` // of them that are not 0
	// Dictionaries are the numbers of the volume's dictionary records, ascending.
	Dictionaries []uint64 `cbor:"7,keyasint,omitempty"`
}

func (f *indexFields) blocks() int {
	return int((f.Highest + positionsInside - 1) / positionsInside)
}

// check refuses what no volume of this program can have.
func (f *indexFields) check() error {
	switch {
	case f.Length < fileHeaderSize || f.Length > maxVolume || f.Length%alignment != 0:
		return malformed("length of the volume")
	case f.Highest > MaxRecords || f.Found > f.Highest:
		return malformed("number of records")
	case len(f.Dictionaries) > maxDictionaries:
		return malformed("number of dictionaries")
	}
	for i, n := range f.Dictionaries {
		if n == 0 || n > f.Highest || i > 0 && n <= f.Dictionaries[i-1] {
			return malformed("numbers of the dictionaries")
		}
	}
	return nil
}

// indexTable is one block of positions, decoded.
type indexTable [positionsInside]uint32

// savedIndex is an index file. It keeps the blocks that were asked for until it is told to forget them.
type savedIndex struct {
	fs     vfs.FS
	path   string
	sum    uint32 // checksum of the header block, seeds those of the others
	fields indexFields
	tables []atomic.Pointer[indexTable]
}

// encodeIndexHeader gives the first block, and its checksum.
func encodeIndexHeader(f *indexFields) ([]byte, uint32, error) {
	if err := f.check(); err != nil {
		return nil, 0, err
	}
	fields, err := codec.Marshal(f)
	if err != nil {
		return nil, 0, err
	}
	if len(fields) > indexBlockSize-indexFixed {
		return nil, 0, fmt.Errorf("index header of %d bytes: %w", len(fields), ErrTooLarge)
	}
	b := make([]byte, indexBlockSize)
	copy(b, indexMagic)
	binary.LittleEndian.PutUint32(b[8:], indexVersion)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(fields)))
	copy(b[indexFixed:], fields)
	sum := fileHeaderChecksum(b, len(fields))
	binary.LittleEndian.PutUint32(b[16:], sum)
	return b, sum, nil
}

func decodeIndexHeader(b []byte) (f indexFields, sum uint32, err error) {
	if len(b) < indexBlockSize {
		return f, 0, malformed("index file is shorter than its header block")
	}
	if string(b[:8]) != indexMagic {
		return f, 0, malformed("no index magic")
	}
	if version := binary.LittleEndian.Uint32(b[8:]); version != indexVersion {
		return f, 0, fmt.Errorf("index file of version %d, this program reads %d: %w", version, indexVersion, ErrVersion)
	}
	size := binary.LittleEndian.Uint32(b[12:])
	if size > indexBlockSize-indexFixed {
		return f, 0, malformed("index fields are longer than the block")
	}
	sum = binary.LittleEndian.Uint32(b[16:])
	if sum != fileHeaderChecksum(b, int(size)) {
		return f, 0, malformed("checksum of the index header")
	}
	if err := codec.Unmarshal(b[indexFixed:indexFixed+int(size)], &f); err != nil {
		return f, 0, malformed(err.Error())
	}
	return f, sum, f.check()
}

// tableChecksum covers the positions of a block, and says which block of which file it is.
func tableChecksum(sum uint32, block int, positions []byte) uint32 {
	var number [4]byte
	binary.LittleEndian.PutUint32(number[:], uint32(block))
	return crc32.Update(crc32.Update(sum, table, number[:]), table, positions)
}

// encodeTable puts so many of the positions as a block holds into b.
func encodeTable(b []byte, sum uint32, block int, at []uint32) {
	clear(b)
	for i, p := range at[:min(len(at), positionsInside)] {
		binary.LittleEndian.PutUint32(b[4+4*i:], p)
	}
	binary.LittleEndian.PutUint32(b, tableChecksum(sum, block, b[4:]))
}

func decodeTable(b []byte, sum uint32, block int, length int64) (*indexTable, error) {
	if binary.LittleEndian.Uint32(b) != tableChecksum(sum, block, b[4:]) {
		return nil, malformed("checksum of an index block")
	}
	t := new(indexTable)
	for i := range t {
		p := binary.LittleEndian.Uint32(b[4+4*i:])
		if p != 0 && (p < position(fileHeaderSize) || int64(p)*alignment >= length) {
			return nil, malformed("position outside of the volume")
		}
		t[i] = p
	}
	return t, nil
}

// writeIndex makes or replaces an index file, durably.
func writeIndex(fs vfs.FS, path string, f indexFields, at []uint32) (*savedIndex, error) {
	f.Highest = uint64(len(at))
	head, sum, err := encodeIndexHeader(&f)
	if err != nil {
		return nil, fmt.Errorf("write index %s: %w", path, err)
	}
	err = replaceFile(fs, path, nil, func(w io.Writer) error {
		if _, err := w.Write(head); err != nil {
			return err
		}
		b := make([]byte, indexBlockSize)
		for i := range f.blocks() {
			encodeTable(b, sum, i, at[i*positionsInside:])
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("write index %s: %w", path, err)
	}
	return newSavedIndex(fs, path, f, sum), nil
}

func newSavedIndex(fs vfs.FS, path string, f indexFields, sum uint32) *savedIndex {
	return &savedIndex{fs: fs, path: path, sum: sum, fields: f, tables: make([]atomic.Pointer[indexTable], f.blocks())}
}

// openIndex reads the header of an index file.
func openIndex(fs vfs.FS, path string) (x *savedIndex, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			x, err = nil, fmt.Errorf("close index %s: %w", path, closeErr)
		}
	}()
	b := make([]byte, indexBlockSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read index %s: %w", path, err)
	}
	fields, sum, err := decodeIndexHeader(b[:n])
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", path, err)
	}
	if want := int64(1+fields.blocks()) * indexBlockSize; info.Size() != want {
		return nil, fmt.Errorf("index %s: %d bytes, expected %d: %w", path, info.Size(), want, malformed("length of the index file"))
	}
	return newSavedIndex(fs, path, fields, sum), nil
}

// CheckIndex looks at all of an index file that should be of a volume in a generation: ErrIndex if it is of no use.
func CheckIndex(b []byte, id ID, generation uint32) error {
	f, sum, err := decodeIndexHeader(b)
	switch {
	case err != nil:
	case f.Volume != id || f.Generation != generation:
		err = fmt.Errorf("it is of volume %s, generation %d: %w", f.Volume, f.Generation, ErrMisplaced)
	case len(b) != (1+f.blocks())*indexBlockSize:
		err = malformed("length of the index file")
	}
	for i := 1; err == nil && i <= f.blocks(); i++ {
		_, err = decodeTable(b[i*indexBlockSize:(i+1)*indexBlockSize], sum, i-1, f.Length)
	}
	if err != nil {
		return fmt.Errorf("index of volume %s, generation %d: %w: %w", id, generation, ErrIndex, err)
	}
	return nil
}

// place gives the position of a record, 0 if there is none, and reads the block that has it when it was not read yet.
func (x *savedIndex) place(number uint64) (uint32, error) {
	if number == 0 || number > x.fields.Highest {
		return 0, nil
	}
	block, slot := int((number-1)/positionsInside), (number-1)%positionsInside
	t := x.tables[block].Load()
	if t == nil {
		var err error
		if t, err = x.load(block); err != nil {
			return 0, err
		}
		x.tables[block].Store(t)
	}
	return t[slot], nil
}

// load reads a block. The file is opened for that alone: blocks are read once, and open files are few.
func (x *savedIndex) load(block int) (*indexTable, error) {
	f, err := x.fs.Open(x.path)
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	b := newBuffer(indexBlockSize)
	defer b.release()
	b.b = b.b[:indexBlockSize]
	n, err := f.ReadAt(b.b, int64(1+block)*indexBlockSize)
	closeErr := f.Close()
	switch {
	case n < len(b.b):
		err = malformed(fmt.Sprintf("%d of %d bytes could be read: %v", n, len(b.b), err))
	default:
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", x.path, err)
	}
	t, err := decodeTable(b.b, x.sum, block, x.fields.Length)
	if err != nil {
		return nil, fmt.Errorf("index %s, block %d: %w", x.path, block, err)
	}
	return t, nil
}

// all gives every position.
func (x *savedIndex) all() ([]uint32, error) {
	at := make([]uint32, 0, len(x.tables)*positionsInside)
	for block := range x.tables {
		t, err := x.load(block)
		if err != nil {
			return nil, err
		}
		at = append(at, t[:]...)
	}
	return at[:x.fields.Highest], nil
}

// forget gives back the memory of the blocks.
func (x *savedIndex) forget() {
	for i := range x.tables {
		x.tables[i].Store(nil)
	}
}
