package directory

import (
	"context"
	"errors"
	"fmt"

	"hongyan/engine/index"
	"hongyan/engine/volume"
)

// keptDictionaries is how many are kept: the newest, with which mail is compressed, and those before, of mail on its way. Volumes have their own.
const keptDictionaries = 4

// MethodDictionaries asks a node with a replica for dictionaries.
const MethodDictionaries = "directory.dictionaries"

// Dictionary is what small messages are compressed with.
type Dictionary struct {
	Number uint32 `cbor:"1,keyasint"` // counted from 1
	Bytes  []byte `cbor:"2,keyasint"` // as zstd has it; its id is DictionaryID(Number)
	Made   int64  `cbor:"3,keyasint"` // unix seconds, by whoever trained it
}

// DictionaryID is the id in the frames that need a dictionary. Smaller ones belong to a public registry (RFC 8878, section 5).
func DictionaryID(number uint32) uint32 { return 32768 + number }

// AddDictionary enters a dictionary under the next number, and forgets the oldest. One that was made for another number is refused.
type AddDictionary struct {
	Dictionary Dictionary `cbor:"1,keyasint"`
}

// DictionariesRequest asks for those above a number.
type DictionariesRequest struct {
	After uint32 `cbor:"1,keyasint,omitempty"`
}

// DictionariesResponse has them, the oldest first.
type DictionariesResponse struct {
	List []Dictionary `cbor:"1,keyasint,omitempty"`
}

func addDictionary(t *index.Txn, c *AddDictionary) (*Result, error) {
	d := &c.Dictionary
	if len(d.Bytes) == 0 || len(d.Bytes) > volume.MaxDictionary {
		return nil, refuse("a dictionary of %d bytes: expected 1 to %d", len(d.Bytes), volume.MaxDictionary)
	}
	known, err := loadIf[counters](t, []byte(counterKey))
	if err != nil {
		return nil, err
	}
	if uint64(d.Number) != known.Dictionary+1 {
		return nil, refuse("dictionary %d: the next has number %d", d.Number, known.Dictionary+1)
	}
	known.Dictionary++
	if err := save(t, []byte(counterKey), &known); err != nil {
		return nil, err
	}
	if known.Dictionary > keptDictionaries {
		if err := t.Delete(numberKey(dictionaryTable, known.Dictionary-keptDictionaries)); err != nil {
			return nil, err
		}
	}
	return &Result{Created: true}, save(t, numberKey(dictionaryTable, known.Dictionary), d)
}

// AddDictionary enters a dictionary for all nodes to use.
func (s *Service) AddDictionary(ctx context.Context, d Dictionary) error {
	_, err := s.propose(ctx, &Command{AddDictionary: &AddDictionary{Dictionary: d}})
	return err
}

// Dictionaries lists those above a number, the oldest first, as this node's replica of the directory has them, or the nearest.
func (s *Service) Dictionaries(ctx context.Context, after uint32) ([]Dictionary, error) {
	req, resp := &DictionariesRequest{After: after}, (*DictionariesResponse)(nil)
	var err error
	if s.Own() {
		resp, err = s.serveDictionaries(ctx, "", req)
	} else {
		resp, err = askReplica[DictionariesResponse](ctx, s, MethodDictionaries, req)
	}
	if err != nil {
		return nil, err
	}
	return resp.List, nil
}

func (s *Service) serveDictionaries(_ context.Context, _ string, req *DictionariesRequest) (resp *DictionariesResponse, err error) {
	v, err := s.view()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	known, err := loadIf[counters](v, []byte(counterKey))
	if err != nil {
		return nil, err
	}
	resp = &DictionariesResponse{}
	first := max(uint64(req.After), known.Dictionary-min(known.Dictionary, keptDictionaries)) + 1
	for n := first; n <= known.Dictionary; n++ {
		d, err := load[Dictionary](v, numberKey(dictionaryTable, n))
		if err != nil {
			return nil, fmt.Errorf("dictionary %d: %w", n, err)
		}
		resp.List = append(resp.List, d)
	}
	return resp, nil
}
