package message

import (
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"hongyan/engine/effort"
)

// corpus unpacks the shared messages and returns their files; the test is skipped where they or xz are not there.
func corpus(t *testing.T) []string {
	t.Helper()
	archive, err := filepath.Abs("../../../shared/corpus.tar.xz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(archive); err != nil {
		t.Skipf("needs the corpus of test messages: %v", err)
	}
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip("needs the xz program to unpack the corpus of test messages")
	}
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xJf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("unpack %s: %v: %s", archive, err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d messages in %s, %v", len(files), archive, err)
	}
	return files
}

// TestCorpus reads mail that people and programs really wrote, much of it broken.
func TestCorpus(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var files, degraded, subjects, dates, total int
	for i, file := range corpus(t) {
		if i%effort.Of(10, 1, 1) > 0 {
			continue
		}
		raw := readFile(t, file)
		s := scan(raw)
		checkSummary(t, s, raw)
		checkTexts(t, filepath.Base(file), s.Structure, raw)
		if t.Failed() {
			t.Fatalf("%s:\n%s", file, describe(s, raw))
		}
		most := 1 + rng.IntN(2000)
		checkPieces(t, file, raw[:min(len(raw), 20_000)], rng)
		if again := scanPieces(raw, func() int { return 1 + rng.IntN(most) }); describe(again, raw) != describe(s, raw) {
			t.Fatalf("%s depends on its pieces", file)
		}
		enc := mustEncode(t, s)
		got, err := Decode(enc)
		if err != nil {
			t.Fatal(err)
		}
		files++
		total += len(enc)
		degraded += count(got.Degraded)
		subjects += count(s.Envelope.Subject != "")
		dates += count(s.SentDate != 0)
		if s.Envelope.Date != "" && s.SentDate == 0 {
			t.Logf("%s: no date in %q", filepath.Base(file), s.Envelope.Date)
		}
	}
	t.Logf("%d messages: %d with a subject, %d with a date, %d degraded, %d bytes of summary on average",
		files, subjects, dates, degraded, total/files)
	if degraded > 0 {
		t.Errorf("%d summaries did not fit", degraded)
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// checkTexts reads all parts as text.
func checkTexts(t *testing.T, name string, p *Part, raw []byte) {
	t.Helper()
	out, err := io.ReadAll(TextReader(p, strings.NewReader(string(raw[p.BodyStart:p.BodyEnd]))))
	if err != nil || p.Type == "text" && !utf8.Valid(out) {
		t.Errorf("%s: text of part at %d: %v", name, p.BodyStart, err)
	}
	for _, c := range p.Children {
		checkTexts(t, name, c, raw)
	}
}
