package mail_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/klauspost/compress/zstd"

	"hongyan/bench/mail"
	"hongyan/cluster/mailbox"
	"hongyan/engine/codec"
	"hongyan/engine/dictionary"
	"hongyan/engine/effort"
	"hongyan/engine/recode"
	"hongyan/engine/volume"
)

const corpusFile = "../../../shared/corpus.tar.xz"

// corpus is mail that people wrote, from the test data of mail software; it lies beside the repository.
func corpus(t testing.TB) (list []mail.Message) {
	if _, err := os.Stat(corpusFile); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is not here", corpusFile)
	}
	packed, err := exec.Command("xz", "-dc", corpusFile).Output()
	if err != nil {
		t.Skipf("xz does not unpack the corpus: %v", err)
	}
	for r := tar.NewReader(bytes.NewReader(packed)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		must(t, err)
		if !strings.HasSuffix(h.Name, ".eml") {
			continue
		}
		b, err := io.ReadAll(r)
		must(t, err)
		list = append(list, mail.Message{From: "somebody@example.test", To: []int{len(list)}, Bytes: b})
	}
}

func mix(n int) (list []mail.Message) {
	g := mail.New(1)
	for range n {
		list = append(list, g.Next())
	}
	return list
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func size(list []mail.Message) (n int) {
	for _, m := range list {
		n += len(m.Bytes)
	}
	return n
}

// trained is a dictionary made of messages, as a node would make it.
func trained(t testing.TB, list []mail.Message) []byte {
	var samples []dictionary.Sample
	for _, m := range list {
		if len(m.Bytes) <= 64<<10 {
			samples = append(samples, dictionary.Sample{Account: uint64(m.To[0]), Bytes: m.Bytes})
		}
	}
	b, err := dictionary.Train(40000, samples)
	must(t, err)
	return b
}

// halves splits a list into every other message.
func halves(list []mail.Message) (even, odd []mail.Message) {
	for i, m := range list {
		if i%2 == 0 {
			even = append(even, m)
		} else {
			odd = append(odd, m)
		}
	}
	return even, odd
}

// fill writes messages into a volume with their metadata, and gives the records' numbers.
func fill(t testing.TB, v *volume.Volume, list []mail.Message, d *volume.Dictionary) (records []uint64) {
	for _, m := range list {
		s := volume.NewSpool(vfs.NewMem(), "", 64<<20)
		s.Use(d)
		_, err := s.Write(m.Bytes)
		must(t, err)
		b, err := s.Finish()
		must(t, err)
		hash := sha256.Sum256(m.Bytes)
		o := mailbox.Origin{Delivery: [16]byte(hash[:]), From: m.From, Date: 1_790_000_000}
		for _, to := range m.To {
			o.Targets = append(o.Targets, mailbox.Target{Account: uint64(to) + 1, Mailbox: "INBOX"})
		}
		meta, err := codec.Marshal(&o)
		must(t, err)
		ref, _, err := v.Append(t.Context(), volume.KindMessage, meta, b)
		must(t, err)
		must(t, b.Close())
		records = append(records, ref.Record)
	}
	return records
}

// TestCorpusComesBack: what people really wrote, malformed as it is, is read as it was written, with a dictionary and without.
func TestCorpusComesBack(t *testing.T) {
	list := corpus(t)
	d, err := volume.NewDictionary(trained(t, list[:500]))
	must(t, err)
	for _, d := range []*volume.Dictionary{nil, d} {
		v, err := volume.Create(vfs.NewMem(), "a.vol", volume.Header{ID: 1}, volume.Options{})
		must(t, err)
		for i, n := range fill(t, v, list[:len(list)/effort.Of(8, 1, 1)], d) {
			r, err := v.Open(n, 0, uint64(len(list[i].Bytes)))
			must(t, err)
			got, err := io.ReadAll(r)
			must(t, errors.Join(err, r.Close()))
			if !bytes.Equal(got, list[i].Bytes) {
				t.Fatalf("message %d came back otherwise", i)
			}
		}
		must(t, v.Close())
	}
}

// BenchmarkDisk says how many bytes of a volume a byte of mail takes: one copy, hot, with record headers, metadata and padding. The bar is
// 0.6. A dictionary is trained on every other message and used for the rest.
func BenchmarkDisk(b *testing.B) {
	for name, load := range map[string]func() []mail.Message{"corpus": func() []mail.Message { return corpus(b) }, "mix": func() []mail.Message { return mix(8000) }} {
		b.Run(name, func(b *testing.B) {
			learn, list := halves(load())
			made, err := volume.NewDictionary(trained(b, learn))
			must(b, err)
			for _, d := range []*volume.Dictionary{nil, made} {
				b.Run(fmt.Sprintf("dictionary=%v", d != nil), func(b *testing.B) {
					var disk int64
					b.SetBytes(int64(size(list)))
					for b.Loop() {
						v, err := volume.Create(vfs.NewMem(), "a.vol", volume.Header{ID: 1}, volume.Options{})
						must(b, err)
						fill(b, v, list, d)
						disk = v.Durable()
						must(b, v.Close())
					}
					ratio := float64(disk) / float64(size(list))
					b.ReportMetric(ratio, "disk/mail")
					if ratio > 0.6 {
						b.Errorf("%.3f bytes on disk for a byte of mail, the bar is 0.6", ratio)
					}
				})
			}
		})
	}
}

// BenchmarkCompression compares what could be done: levels of zstd, base64 taken out, a dictionary for messages of one chunk, blocks of
// small messages of one account (as a cold volume could have them, on messages of up to 16 KiB only), and attachments stored once.
func BenchmarkCompression(b *testing.B) {
	learn, list := halves(mix(6000))
	made := trained(b, learn)
	for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression} {
		for _, way := range []struct {
			name       string
			recoded    bool
			dictionary []byte
		}{{"plain", false, nil}, {"recoded", true, nil}, {"recoded+dictionary", true, made}} {
			b.Run(fmt.Sprintf("%v/%s", level, way.name), func(b *testing.B) {
				compress(b, level, way.dictionary, way.recoded, chunks(list))
			})
			if way.recoded {
				for _, block := range []int{0, 64 << 10, 256 << 10} {
					b.Run(fmt.Sprintf("%v/%s/block=%dk", level, way.name, block>>10), func(b *testing.B) {
						compress(b, level, way.dictionary, true, blocks(list, block))
					})
				}
			}
		}
	}
	b.Run("attachments sent again", func(b *testing.B) {
		var again int
		for b.Loop() {
			again = repeated(list)
		}
		b.ReportMetric(float64(again)/float64(size(list)), "of-mail")
	})
}

// compress reports what becomes of a byte, and how fast.
func compress(b *testing.B, level zstd.EncoderLevel, dictionary []byte, recoded bool, pieces [][]byte) {
	o := []zstd.EOption{zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false), zstd.WithWindowSize(256 << 10)}
	plain, err := zstd.NewWriter(nil, o...)
	must(b, err)
	with := plain
	if dictionary != nil {
		with, err = zstd.NewWriter(nil, append(o, zstd.WithEncoderDict(dictionary))...)
		must(b, err)
	}
	var raw, stored int
	var coded, out []byte
	for b.Loop() {
		raw, stored = 0, 0
		for _, p := range pieces {
			raw += len(p)
			if recoded {
				if c, ok := recode.Encode(coded[:0], p); ok {
					coded, p = c, c
				}
			}
			out = with.EncodeAll(p, out[:0])
			stored += 8 + min(len(out), len(p))
		}
	}
	b.SetBytes(int64(raw))
	b.ReportMetric(float64(stored)/float64(raw), "stored/mail")
}

// chunks are the messages as they are stored.
func chunks(list []mail.Message) (out [][]byte) {
	for _, m := range list {
		for rest := m.Bytes; len(rest) > 0; {
			n := min(len(rest), 256<<10)
			out, rest = append(out, rest[:n]), rest[n:]
		}
	}
	return out
}

// blocks puts small messages of an account together.
func blocks(list []mail.Message, size int) (out [][]byte) {
	byAccount := make([][]byte, mail.New(1).Accounts())
	for _, m := range list {
		if len(m.Bytes) > 16<<10 {
			continue
		}
		p := &byAccount[m.To[0]]
		if *p = append(*p, m.Bytes...); len(*p) >= size {
			out, *p = append(out, *p), nil
		}
	}
	for _, p := range byAccount {
		if len(p) > 0 {
			out = append(out, p)
		}
	}
	return out
}

// repeated is how many bytes of parts in base64 stand in an earlier message too, byte for byte.
func repeated(list []mail.Message) (again int) {
	seen := make(map[[32]byte]bool)
	for _, m := range list {
		for _, part := range bytes.Split(m.Bytes, []byte("\r\n\r\n")) {
			part, _, _ = bytes.Cut(part, []byte("\r\n--"))
			if len(part) < 2000 || bytes.ContainsAny(part[:200], " <") {
				continue
			}
			h := sha256.Sum256(part)
			if seen[h] {
				again += len(part)
			}
			seen[h] = true
		}
	}
	return again
}
