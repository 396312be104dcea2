package dictionary

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// letters are n messages to 64 accounts: each has a dozen of forty paragraphs, and something of its own.
func letters(n int) []Sample {
	rng := rand.New(rand.NewPCG(7, 7))
	paragraphs := make([]string, 40)
	for i := range paragraphs {
		for range 30 {
			paragraphs[i] += fmt.Sprintf("word%x ", rng.IntN(1<<16))
		}
	}
	out := make([]Sample, n)
	for i := range out {
		var b bytes.Buffer
		for range 12 {
			fmt.Fprintf(&b, "%s\r\n%x\r\n", paragraphs[rng.IntN(len(paragraphs))], rng.Uint64())
		}
		out[i] = Sample{Account: uint64(i % 64), Bytes: b.Bytes()}
	}
	return out
}

func TestTrain(t *testing.T) {
	all := letters(400)
	b, err := Train(40000, all[:300])
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > Size {
		t.Fatalf("%d bytes", len(b))
	}
	info, err := zstd.InspectDictionary(b)
	if err != nil || info.ID() != 40000 {
		t.Fatalf("dictionary %v: %v", info, err)
	}
	without, err := Ratio(nil, all[300:])
	if err != nil {
		t.Fatal(err)
	}
	with, err := Ratio(b, all[300:])
	if err != nil || with > without/2 {
		t.Fatalf("%.3f with, %.3f without: %v", with, without, err)
	}
}

// TestNobodysOwn plants strings that must not get into a dictionary, and one that may.
func TestNobodysOwn(t *testing.T) {
	all := letters(320)
	plant := func(text string, each func(i int) bool) {
		for i := range all {
			if each(i) {
				all[i].Bytes = append(bytes.Clone(all[i].Bytes), "\r\n"+text+"\r\n"...)
			}
		}
	}
	few := "the passphrase of the vault in the cellar is correct horse battery"
	plant(few, func(i int) bool { return i%64 < MinAccounts-1 }) // often, but for one account too few
	one := "monthly numbers of one customer who gets this every single day 4711"
	plant(one, func(i int) bool { return i%64 == 20 })
	many := "a sentence of a newsletter which a great many accounts are sent, 0815"
	plant(many, func(i int) bool { return i%64 < 3*MinAccounts })
	b, err := Train(40001, all)
	if err != nil {
		t.Fatal(err)
	}
	info, err := zstd.InspectDictionary(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{few, one} {
		for i := range len(secret) - 12 {
			if bytes.Contains(info.Content(), []byte(secret[i:i+12])) {
				t.Errorf("the dictionary contains %q", secret[i:i+12])
			}
		}
	}
	for i := range len(many) - window + 1 { // text is cut where a random hash says, so it may lie there in two places
		if !bytes.Contains(info.Content(), []byte(many[i:i+window])) {
			t.Errorf("the dictionary lacks what many accounts have: %q", many[i:i+window])
		}
	}
}

func TestTooLittle(t *testing.T) {
	some := letters(300)
	for i := range some {
		some[i].Account = uint64(i % (MinAccounts - 1))
	}
	for name, samples := range map[string][]Sample{"nothing": nil, "few messages": letters(100), "few accounts": some} {
		if _, err := Train(40000, samples); !errors.Is(err, ErrTooLittle) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
