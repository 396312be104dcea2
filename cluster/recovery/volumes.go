package recovery

import (
	"context"
	"slices"

	"hongyan/cluster/directory"
	"hongyan/engine/volume"
)

// foundRequest asks a node for the volumes on its disk.
type foundRequest struct{}

type foundResponse struct {
	Found    []foundVolume `cbor:"1,keyasint,omitempty"`
	Unopened []volume.ID   `cbor:"2,keyasint,omitempty"` // that may be of this kind
}

// foundVolume is a whole file of a volume with at least one record.
type foundVolume struct {
	Header volume.Header `cbor:"1,keyasint"`
	Length int64         `cbor:"2,keyasint"`
}

func (r *Recovery) serveFound(context.Context, string, *foundRequest) (*foundResponse, error) {
	resp := new(foundResponse)
	for _, id := range r.cfg.Volumes.List() {
		v, err := r.cfg.Volumes.Get(id)
		if err != nil {
			r.cfg.Log.Warn("a volume cannot be opened, so it is not entered", "volume", id, "err", err)
			resp.Unopened = append(resp.Unopened, id)
			continue
		}
		e, known := r.cfg.Entry(id)
		if h := v.Header(); v.Stats().Records > 0 && (!known || e.Generation < h.Generation) {
			resp.Found = append(resp.Found, foundVolume{Header: h, Length: v.Stats().Bytes})
		}
	}
	return resp, nil
}

// note enters the file if it is of the latest generation that was found. known is one more than the directory's, 0 if it does not know the volume.
func (f *foundVolume) note(found map[volume.ID]*directory.Found, node string, known uint32) {
	if known > f.Header.Generation {
		return
	}
	old := found[f.Header.ID]
	switch {
	case old == nil || old.Header.Generation < f.Header.Generation:
		found[f.Header.ID] = &directory.Found{Header: f.Header, Length: f.Length, Nodes: []string{node}}
	case old.Header.Generation == f.Header.Generation && !slices.Contains(old.Nodes, node):
		old.Nodes = append(old.Nodes, node)
		old.Length = min(old.Length, f.Length)
	}
}
