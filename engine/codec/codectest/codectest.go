// Package codectest holds what packages encode against golden files: lines of a name and the encoding in hex. Such a file is written
// when a format is made, by `go test -update` in the package, and from then on only grows: old versions of it are on
// disks and in other nodes.
package codectest

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"hongyan/engine/codec"
)

var update = flag.Bool("update", false, "rewrite the golden files of formats")

// Sample is a value, a pointer to a struct, under the name that it has in the file.
type Sample struct {
	Name  string
	Value any
	// Former is one from before fields were added, which it does not set; another sample has them all.
	Former bool
}

// Golden checks that samples are encoded as the file says, and that what the file says decodes to them. Every field of a
// sample must be set, or its drift would go unnoticed.
func Golden(t *testing.T, file string, samples []Sample) {
	t.Helper()
	var lines strings.Builder
	for _, s := range samples {
		if !s.Former {
			full(t, s)
		}
		b, err := codec.Marshal(s.Value)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, "%s %x\n", s.Name, b)
	}
	if *update {
		if err := os.WriteFile(file, []byte(lines.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	old := make(map[string][]byte)
	for line := range strings.Lines(string(text)) {
		name, digits, _ := strings.Cut(strings.TrimSpace(line), " ")
		if old[name], err = hex.DecodeString(digits); err != nil {
			t.Fatalf("%s: %s: %v", file, name, err)
		}
	}
	for _, s := range samples {
		compare(t, s, old[s.Name])
		delete(old, s.Name)
	}
	for name := range old {
		t.Errorf("%s: %s has no sample", file, name)
	}
}

// compare holds one sample against its line.
func compare(t *testing.T, s Sample, old []byte) {
	t.Helper()
	got := reflect.New(reflect.TypeOf(s.Value).Elem()).Interface()
	if err := codec.Unmarshal(old, got); err != nil || !reflect.DeepEqual(got, s.Value) {
		t.Errorf("%s: the golden file reads as %+v, %v\nwant %+v", s.Name, got, err, s.Value)
	}
	if now, err := codec.Marshal(s.Value); err != nil || !bytes.Equal(now, old) {
		t.Errorf("%s: the encoding has changed: %x, %v\nwas %x", s.Name, now, err, old)
	}
}

// full looks for fields of the encoding that are not set. A struct of pointers of which one is set is a choice: that one is looked at.
func full(t *testing.T, s Sample) {
	t.Helper()
	v := reflect.ValueOf(s.Value).Elem()
	chosen, pointers, set := reflect.Value{}, 0, 0
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Pointer {
			pointers++
			if !f.IsNil() {
				chosen, set = f.Elem(), set+1
			}
		}
	}
	if pointers > 1 && pointers == v.NumField() && set == 1 {
		v = chosen
	}
	for i := range v.NumField() {
		if f := v.Type().Field(i); v.Field(i).IsZero() && f.IsExported() && f.Tag.Get("cbor") != "-" {
			t.Errorf("%s: field %s is not set", s.Name, f.Name)
		}
	}
}
