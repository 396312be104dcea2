package dictionary

import (
	"context"
	"io"
	"math/rand/v2"
	"slices"

	"hongyan/cluster/mailbox"
	"hongyan/engine/codec"
	training "hongyan/engine/dictionary"
	"hongyan/engine/volume"
)

const (
	sampledVolumes = 16       // the newest
	longest        = 64 << 10 // of a message that is sampled: of longer ones the text is a small part
	tryEvery       = 8        // of so many samples one is kept to try the dictionary on
)

// sample takes messages at random from the newest volumes of this node, to learn from and to try on. What cannot be read is passed over:
// other parts of the node look after that. So are volumes under a policy: a dictionary has pieces of mail, and every node gets it.
func (k *Keeper) sample(ctx context.Context) (learn, try []training.Sample, err error) {
	ids := k.cfg.Volumes.List()
	slices.Reverse(ids)
	var full []*volume.Volume
	for _, id := range ids {
		if v, err := k.cfg.Volumes.Get(id); err == nil && v.Stats().Records > 0 && len(v.Header().Policy) == 0 {
			full = append(full, v)
		}
		if len(full) == sampledVolumes {
			break
		}
	}
	left := training.MaxSamples / (tryEvery - 1) * tryEvery
	for i, v := range full {
		budget := left / (len(full) - i)
		for _, n := range rand.Perm(int(max(v.Stats().Records, v.Header().Records))) {
			if ctx.Err() != nil {
				return nil, nil, ctx.Err()
			}
			s, ok := readSample(v, uint64(n)+1)
			if !ok {
				continue
			}
			if (len(try)+1)*tryEvery <= len(try)+len(learn) {
				try = append(try, s)
			} else {
				learn = append(learn, s)
			}
			left -= len(s.Bytes)
			if budget -= len(s.Bytes); budget <= 0 {
				break
			}
		}
	}
	return learn, try, nil
}

// readSample reads the beginning of a record's message, if it is one of people's.
func readSample(v *volume.Volume, record uint64) (s training.Sample, ok bool) {
	info, err := v.Get(record)
	if err != nil || info.Kind != volume.KindMessage || info.Length > longest {
		return s, false
	}
	var o mailbox.Origin
	if err := codec.Unmarshal(info.Meta, &o); err != nil || len(o.Targets) == 0 {
		return s, false
	}
	r, err := v.Open(record, 0, training.MaxSample)
	if err != nil {
		return s, false
	}
	s.Account = o.Targets[0].Account
	s.Bytes, err = io.ReadAll(r)
	return s, r.Close() == nil && err == nil
}
