package wire

import (
	goimap "github.com/emersion/go-imap/v2"
)

// SeqSet takes a set of sequence numbers, or "$", the result of the last search, which is a UIDSet (RFC 5182).
func (d *Decoder) SeqSet() (goimap.NumSet, error) {
	if d.Try('$') {
		return goimap.SearchRes(), nil
	}
	var set goimap.SeqSet
	err := d.ranges(func(from, to uint32) { set = append(set, goimap.SeqRange{Start: from, Stop: to}) })
	if err != nil {
		return nil, err
	}
	return set, nil
}

// UIDSet takes a set of UIDs, or "$".
func (d *Decoder) UIDSet() (goimap.UIDSet, error) {
	if d.Try('$') {
		return goimap.SearchRes(), nil
	}
	var set goimap.UIDSet
	err := d.ranges(func(from, to uint32) {
		set = append(set, goimap.UIDRange{Start: goimap.UID(from), Stop: goimap.UID(to)})
	})
	return set, err
}

// ranges takes a sequence-set. "*" is 0, and always the second of two; of others the lower one comes first.
func (d *Decoder) ranges(add func(from, to uint32)) error {
	for {
		from, err := d.seqNumber()
		if err != nil {
			return err
		}
		to := from
		if d.Try(':') {
			if to, err = d.seqNumber(); err != nil {
				return err
			}
			if from == 0 || to != 0 && to < from {
				from, to = to, from
			}
		}
		add(from, to)
		if !d.Try(',') {
			return nil
		}
	}
}

func (d *Decoder) seqNumber() (uint32, error) {
	if d.Try('*') {
		return 0, nil
	}
	r := d.rest()
	n, i := uint64(0), 0
	for ; i < len(r) && r[i] >= '0' && r[i] <= '9' && n < 1<<32; i++ {
		n = n*10 + uint64(r[i]-'0')
	}
	if n == 0 || n >= 1<<32 {
		return 0, Bad("Bad message set")
	}
	d.pos += i
	return uint32(n), nil
}
