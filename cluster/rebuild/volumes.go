package rebuild

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"hongyan/cluster/directory"
	"hongyan/cluster/replica"
	"hongyan/engine/volume"
)

// Volumes are the copies of volumes that are at hand, open for reading. Of several generations the newest counts: the directory
// had agreed to it before any node took it up.
type Volumes struct {
	copies map[volume.ID][]*volume.Volume
	cold   map[*volume.Volume]coldPlace
	on     map[*volume.Volume]string // the nodes that copies were found on
}

// coldPlace says where the fragments are that a copy is read through.
type coldPlace struct {
	cold   *replica.Cold
	length int64 // of the volume's file
}

// AddCold enters a volume that is read through its fragments. Those whole copies of it that are at hand are entered before.
func (vs *Volumes) AddCold(v *volume.Volume, length int64, where *replica.Cold) {
	if vs.cold == nil {
		vs.cold = make(map[*volume.Volume]coldPlace)
	}
	vs.cold[v] = coldPlace{where, length}
	vs.Add(v)
}

// found describes a volume for the directory: as cold only if no whole copy is at hand.
func (vs *Volumes) found(id volume.ID) directory.Found {
	v := vs.copies[id][0]
	if c, ok := vs.cold[v]; ok {
		return directory.Found{Header: v.Header(), Length: c.length, Cold: c.cold}
	}
	f := directory.Found{Header: v.Header(), Length: v.Stats().Bytes}
	for _, v := range vs.copies[id] {
		if node, known := vs.on[v]; known {
			f.Nodes = append(f.Nodes, node)
		}
	}
	return f
}

// On notes which node a copy was found on: copies move, so it may be another one than the file's header says.
func (vs *Volumes) On(v *volume.Volume, node string) {
	if vs.on == nil {
		vs.on = make(map[*volume.Volume]string)
	}
	vs.on[v] = node
}

// Add enters a copy.
func (vs *Volumes) Add(v *volume.Volume) {
	if vs.copies == nil {
		vs.copies = make(map[volume.ID][]*volume.Volume)
	}
	id := v.Header().ID
	list := vs.copies[id]
	if len(list) > 0 {
		switch old, now := list[0].Header().Generation, v.Header().Generation; {
		case now < old:
			return
		case now > old:
			list = nil
		}
	}
	vs.copies[id] = append(list, v)
}

// ids lists the volumes in order.
func (vs *Volumes) ids() []volume.ID { return slices.Sorted(maps.Keys(vs.copies)) }

// records is the highest record number that a volume may have.
func (vs *Volumes) records(id volume.ID) uint64 {
	var most uint64
	for _, v := range vs.copies[id] {
		most = max(most, v.Stats().Records, v.Header().Records)
	}
	return most
}

// stat describes a record without its metadata, from the first copy that has it.
func (vs *Volumes) stat(id volume.ID, record uint64) (volume.Info, error) {
	return first(vs, id, func(v *volume.Volume) (volume.Info, error) { return v.Stat(record) })
}

// get describes a record with its metadata.
func (vs *Volumes) get(id volume.ID, record uint64) (volume.Info, error) {
	return first(vs, id, func(v *volume.Volume) (volume.Info, error) { return v.Get(record) })
}

// has says whether a copy of a volume is at hand.
func (vs *Volumes) has(id volume.ID) bool { return len(vs.copies[id]) > 0 }

// is says whether some copy proves that a record has the bytes that ref means, wherever that says they are.
func (vs *Volumes) is(at place, ref volume.Ref) bool {
	ref.Volume, ref.Record = at.volume, at.record
	same, err := first(vs, at.volume, func(v *volume.Volume) (bool, error) { return v.Is(ref) })
	return same && err == nil
}

// content copies a record's message to w: from a copy that gives all of it, or it fails. What w got of a copy that failed
// is followed by the rest from the next.
func (vs *Volumes) content(id volume.ID, record, length uint64, w io.Writer) error {
	var done uint64
	_, err := first(vs, id, func(v *volume.Volume) (struct{}, error) {
		r, err := v.Open(record, done, length-done)
		if err != nil {
			return struct{}{}, err
		}
		n, err := io.Copy(w, r)
		done += uint64(n)
		if err = errors.Join(err, r.Close()); err == nil && done != length {
			err = io.ErrUnexpectedEOF
		}
		return struct{}{}, err
	})
	return err
}

// first tries one copy after the other.
func first[T any](vs *Volumes, id volume.ID, do func(*volume.Volume) (T, error)) (out T, err error) {
	failed := fmt.Errorf("volume %s: %w", id, volume.ErrNotFound)
	for i, v := range vs.copies[id] {
		if out, err = do(v); err == nil {
			return out, nil
		}
		if i == 0 || errors.Is(failed, volume.ErrNotFound) { // damage in one copy says more than a gap in another
			failed = err
		}
	}
	return out, failed
}
