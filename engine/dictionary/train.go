// Package dictionary trains zstd dictionaries on a store's own mail.
//
// Small messages compress badly alone: what repeats between messages (header lines, templates, footers, phrases) is new in each. A dictionary
// of such strings is given to the compressor as if it stood before each message. On mail it saves a third of what messages of less than
// 16 KiB take (docs/performance.md).
//
// A dictionary is read by every node and stands in every volume, and outlives the messages that it was made of. So nothing that is
// one person's may be in it: it consists of pieces of text of which every window of 24 bytes occurs in mail to 16 accounts or more, each with a message
// of its own. One message to many is one, whoever gets it. The compressor's tables of symbol frequencies come from all samples.
//
// Samples are seen as the compressor sees them, with base64 taken out (package recode). Training keeps no state and touches no disk.
package dictionary

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"hongyan/engine/recode"
)

const (
	// Size is how long a dictionary is at most. Twice as much saves 1 % more of small messages, half as much 3 % less.
	Size = 64 << 10
	// MaxSample is how much of a message is looked at.
	MaxSample = 16 << 10
	// MaxSamples bounds the bytes of all samples, and thereby the memory and time of training: about 200 MiB and 5 s of one processor.
	MaxSamples = 16 << 20
	// MinAccounts is in how many accounts' mail a string must occur.
	MinAccounts = 16

	minSamples = 256     // messages
	minPublic  = 4 << 10 // bytes that are worth a dictionary
	tables     = 1 << 10 // what the compressor's tables take of it at most
)

// ErrTooLittle says that there is not enough mail, or too few accounts, to train on.
var ErrTooLittle = errors.New("too little mail of different accounts to train a dictionary on")

// Sample is the beginning of a message to an account. A message to several counts for one of them, always the same.
type Sample struct {
	Account uint64
	Bytes   []byte
}

// Train makes a dictionary with the id, which the frames that need it will name. Private ids are 32768 to 2^31-1.
func Train(id uint32, samples []Sample) ([]byte, error) {
	samples, contents := prepare(samples)
	if len(samples) < minSamples {
		return nil, fmt.Errorf("%d messages, at least %d: %w", len(samples), minSamples, ErrTooLittle)
	}
	history := choose(samples, Size-tables)
	if len(history) < minPublic {
		return nil, fmt.Errorf("%d bytes that %d accounts have in common, at least %d: %w", len(history), MinAccounts, minPublic, ErrTooLittle)
	}
	b, err := zstd.BuildDict(zstd.BuildDictOptions{ID: id, Contents: contents, History: history, Offsets: [3]int{1, 4, 8}, Level: zstd.SpeedFastest})
	if err != nil {
		return nil, fmt.Errorf("build the tables of a dictionary: %w", err)
	}
	return b, nil
}

// prepare cuts samples to their limits, takes base64 out, and sorts them by account.
func prepare(samples []Sample) (sorted []Sample, contents [][]byte) {
	left := MaxSamples
	for _, s := range samples {
		b := s.Bytes[:min(len(s.Bytes), MaxSample)]
		if left -= len(b); left < 0 {
			break
		}
		if coded, ok := recode.Encode(nil, b); ok {
			b = coded
		}
		if len(b) < window {
			continue
		}
		sorted = append(sorted, Sample{s.Account, b})
	}
	slices.SortStableFunc(sorted, func(a, b Sample) int { return cmp.Compare(a.Account, b.Account) })
	for _, s := range sorted {
		contents = append(contents, s.Bytes)
	}
	return sorted, contents
}

// Ratio compresses what Train would look at of the samples, and says what becomes of a byte. No dictionary is nil.
func Ratio(b []byte, samples []Sample) (float64, error) {
	o := []zstd.EOption{zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1)}
	if b != nil {
		o = append(o, zstd.WithEncoderDict(b))
	}
	e, err := zstd.NewWriter(nil, o...)
	if err != nil {
		return 0, fmt.Errorf("use a dictionary: %w", err)
	}
	_, contents := prepare(samples)
	var raw, stored int
	var scratch []byte
	for _, c := range contents {
		scratch = e.EncodeAll(c, scratch[:0])
		raw += len(c)
		stored += len(scratch)
	}
	return float64(stored) / float64(max(raw, 1)), nil
}
