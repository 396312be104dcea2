package recovery

import (
	"context"
	"errors"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"hongyan/cluster/mailbox"
	"hongyan/cluster/replica"
	"hongyan/cluster/wire"
	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// known asks the first of these nodes that has the shard's state.
func (r *Recovery) known(ctx context.Context, nodes []string, req *knownRequest) (*knownResponse, error) {
	err := error(wire.Errorf(wire.Unavailable, "no voter of shard %d is up", req.Shard))
	for _, node := range nodes {
		if !r.cfg.Net.Up(node) {
			continue
		}
		resp := new(knownResponse)
		err = r.cfg.Net.Call(ctx, node, methodKnown, req, resp)
		if err == nil && len(resp.States) != len(req.Places) {
			err = wire.Errorf(wire.Invalid, "%d answers to %d questions", len(resp.States), len(req.Places))
		}
		if err == nil {
			return resp, nil
		}
	}
	return nil, err
}

// What a shard knows of a message.
const (
	unknown    = 0
	referenced = 1 // it is in a folder
	remembered = 2 // its request was applied; since no folder has it, it was expunged or refused
)

type knownRequest struct {
	Shard  uint32  `cbor:"1,keyasint"`
	Places []place `cbor:"2,keyasint"`
}

type knownResponse struct {
	States []byte      `cbor:"1,keyasint"`
	Marked []volume.ID `cbor:"2,keyasint,omitempty"` // volumes that the shard has entries of which may be in vain
	// Entries whose bytes may be those that are asked about and in no folder, by account and length: those that are in vain, and those of which that is not certain yet.
	Vain   []vain `cbor:"3,keyasint,omitempty"`
	Unsure []vain `cbor:"4,keyasint,omitempty"`
	Tells  bool   `cbor:"5,keyasint,omitempty"` // which volumes are marked; earlier programs do not
}

// vain is an entry without bytes: these may have been put again, of which the survivor has not heard.
type vain struct {
	Account uint64     `cbor:"1,keyasint"`
	Ref     volume.Ref `cbor:"2,keyasint"`
}

// serveKnown answers from this node's replica with all that was acknowledged before.
func (r *Recovery) serveKnown(ctx context.Context, _ string, req *knownRequest) (*knownResponse, error) {
	g, ok := r.cfg.Host.Group(req.Shard)
	if !ok {
		return nil, wire.Errorf(wire.Unavailable, "no replica of shard %d runs here", req.Shard)
	}
	at, err := r.cfg.Router.ReadIndex(ctx, req.Shard)
	if err == nil {
		err = g.WaitApplied(ctx, at)
	}
	if err != nil {
		return nil, err
	}
	resp := &knownResponse{States: make([]byte, len(req.Places)), Tells: true}
	v := g.View()
	err = r.answer(ctx, v, req, resp)
	if err = errors.Join(err, v.Close()); err != nil {
		return nil, err
	}
	return resp, nil
}

// sought is what entries may be whose bytes are in no folder.
type sought struct{ account, length uint64 }

func (r *Recovery) answer(ctx context.Context, v *index.View, req *knownRequest, resp *knownResponse) error {
	early, err := v.EarlyVolumes()
	if err != nil {
		return err
	}
	for _, m := range early {
		resp.Marked = append(resp.Marked, m.Volume)
	}
	refs := make(map[volume.ID]*roaring.Bitmap)
	wanted := make(map[sought]bool)
	txn := r.cfg.Index.Shard(req.Shard).Begin()
	defer txn.Discard()
	for i, p := range req.Places {
		if refs[p.Volume] == nil {
			set := roaring.New()
			refs[p.Volume] = set
			err := v.References(p.Volume, func(ref index.Reference) error { set.Add(uint32(ref.Record)); return nil }) // at most volume.MaxRecords
			if err != nil {
				return err
			}
		}
		if refs[p.Volume].Contains(uint32(p.Record)) {
			resp.States[i] = referenced
			continue
		}
		for _, account := range p.Accounts {
			wanted[sought{account, p.Length}] = true
		}
		_, known, err := txn.Recall(mailbox.Request(p.Delivery, req.Shard))
		if err != nil {
			return err
		}
		if known {
			resp.States[i] = remembered
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	return r.inVain(ctx, v, early, wanted, resp)
}

// inVain lists entries that have no bytes, or may have none: of records behind the end of a volume that has a marker, and of volumes that the directory does not know, or of which
// nobody has a copy. Of the last kinds it is all of them, for wherever such bytes are found the entry is better off.
func (r *Recovery) inVain(ctx context.Context, v *index.View, early []index.Early, wanted map[sought]bool, resp *knownResponse) error {
	if err := r.cfg.Directory.CatchUp(ctx); err != nil { // this node may not have heard of a seal
		return err
	}
	list, err := r.cfg.Directory.Volumes(ctx)
	if err != nil {
		return err
	}
	held, err := v.Held()
	if err != nil {
		return err
	}
	volumes := make(map[volume.ID]replica.Entry, len(list))
	for _, e := range list {
		volumes[e.ID] = e
	}
	ctx, cancel := context.WithTimeout(ctx, spreadTimeout)
	defer cancel()
	fenced := r.cfg.Topology().Fenced()
	for _, id := range held {
		e, known := volumes[id]
		i := slices.IndexFunc(early, func(m index.Early) bool { return m.Volume == id })
		last, certain := e.ToldLast()
		switch {
		case !known:
			last, certain = 0, true
		case i < 0:
			continue
		case certain && last == volume.MaxRecords: // nobody had its bytes any more when it was sealed
			last = 0
		case certain:
		case e.Cold == nil && !slices.ContainsFunc(e.Copies, func(node string) bool { return !slices.Contains(fenced, node) }):
			last, certain = 0, true
		default: // it is open, or was sealed by a program that did not tell
			var failed error
			last, certain, failed = r.cfg.Spread(ctx, id, early[i].Last)
			certain = certain && failed == nil
		}
		to := &resp.Unsure
		if certain {
			to = &resp.Vain
		}
		if *to, err = appendVain(*to, v, id, last, wanted); err != nil {
			return err
		}
	}
	return nil
}

// appendVain adds the entries behind a volume's record that are among those that are sought.
func appendVain(list []vain, v *index.View, id volume.ID, last uint64, wanted map[sought]bool) ([]vain, error) {
	accounts := make(map[uint64]bool)
	for w := range wanted {
		accounts[w.account] = true
	}
	var holders []index.Holder
	err := v.HoldersBehind(id, last, func(h index.Holder) error {
		if accounts[h.Account] {
			holders = append(holders, h)
		}
		return nil
	})
	for _, h := range holders {
		if err != nil {
			break
		}
		err = v.Messages(h.Account, h.Mailbox, roaring.BitmapOf(h.UID), index.WantImmutable, func(m *index.Message) error {
			if wanted[sought{h.Account, m.Ref.Length}] {
				list = append(list, vain{h.Account, m.Ref})
			}
			return nil
		})
		if errors.Is(err, index.ErrNoMailbox) { // of a deleted folder, whose rows are still to be swept
			err = nil
		}
	}
	return list, err
}
