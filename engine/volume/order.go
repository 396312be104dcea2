package volume

// rules are what a file's header block says about every record in the file.
type rules struct {
	seed      uint32 // checksum of the block, seeds those of the record headers
	encrypted bool   // all records are sealed; otherwise none is
	records   uint64 // the highest number in a file of a later generation; 0 in the first
}

func (h *Header) rules(seed uint32) rules {
	return rules{seed: seed, encrypted: h.Encrypted, records: h.Records}
}

// sparse says that the file is a later generation: it has any of the records, in any order.
func (r rules) sparse() bool { return r.records > 0 }

// decode reads a record header of the file.
func (r rules) decode(b []byte) (recordHeader, error) {
	h, err := decodeRecordHeader(b, r.seed)
	if err == nil && h.sealed != r.encrypted {
		err = malformed("encryption of the record is not that of the volume")
	}
	return h, err
}

// order says which record numbers may come next in a file. In the first generation they are dense and ascend; in later
// ones each of 1 to records occurs at most once.
type order struct {
	next    uint64   // in the first generation
	records uint64   // in later ones, the highest number
	seen    []uint64 // and a bit for each number that has come
}

// orderAfter continues behind the records of an index.
func (r rules) orderAfter(index []uint32) order {
	if !r.sparse() {
		return order{next: uint64(len(index)) + 1}
	}
	o := order{records: r.records, seen: make([]uint64, r.records/64+1)}
	for i, p := range index {
		if p != 0 {
			o.take(uint64(i) + 1)
		}
	}
	return o
}

// only allows the one record.
func only(number uint64) order { return order{next: number} }

// allows says whether the record may come here, behind damage in which up to lost other records may lie.
func (o *order) allows(number, lost uint64) bool {
	if o.seen == nil {
		return number >= o.next && number <= o.next+lost
	}
	return number > 0 && number <= o.records && o.seen[number/64]&(1<<(number%64)) == 0
}

// take notes that the record came.
func (o *order) take(number uint64) {
	if o.seen == nil {
		o.next = number + 1
		return
	}
	o.seen[number/64] |= 1 << (number % 64)
}

// placed is where a record begins, in units of 8 bytes.
type placed struct {
	number   uint64
	position uint32
	kind     Kind
}

// place enters a record into an index.
func place(index []uint32, p placed) []uint32 {
	for uint64(len(index)) < p.number {
		index = append(index, 0)
	}
	index[p.number-1] = p.position
	return index
}

// position packs a file offset for the record index; maxVolume keeps it in range.
func position(off int64) uint32 { return uint32(off / alignment) }
