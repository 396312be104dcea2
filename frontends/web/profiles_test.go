package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"
)

func TestProfiles(t *testing.T) {
	s := start(t, nil)
	const base = "/api/v1/debug/pprof/"
	for _, path := range []string{base, base + "heap", base + "profile", "/debug/pprof/heap", "/debug/pprof/"} {
		if res, _ := s.ask("GET", path, ""); res.StatusCode == 200 {
			t.Errorf("%s is served without the token", path)
		}
	}
	if code, body := s.call("GET", base, ""); code != 200 || body != `{"profiles":["allocs","goroutine","heap","profile","trace"]}` {
		t.Errorf("list: %d %s", code, body)
	}
	for _, path := range []string{"heap?gc=1", "allocs", "goroutine", "profile?seconds=1"} {
		res, body := s.ask("GET", base+path, "", "Authorization", "Bearer "+token)
		r, err := gzip.NewReader(strings.NewReader(body)) // a pprof profile is a compressed protobuf
		if err != nil || res.StatusCode != 200 || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", path, res.StatusCode, err)
			continue
		}
		if raw, err := io.ReadAll(r); err != nil || len(raw) == 0 {
			t.Errorf("%s: %d bytes, %v", path, len(raw), err)
		}
	}
	if res, body := s.ask("GET", base+"trace?seconds=1", "", "Authorization", "Bearer "+token); res.StatusCode != 200 || !bytes.HasPrefix([]byte(body), []byte("go 1.")) {
		t.Errorf("trace: %d %.20q", res.StatusCode, body)
	}
	if code, body := s.call("GET", base+"goroutine?debug=1", ""); code != 200 || !strings.Contains(body, "goroutine profile: total") {
		t.Errorf("as text: %d %.80s", code, body)
	}
	for path, want := range map[string]int{"profile?seconds=26": 400, "trace?seconds=0": 400, "profile?seconds=x": 400, "cmdline": 404, "symbol": 404, "block": 404, "heap/x": 404} {
		if code, body := s.call("GET", base+path, ""); code != want || !strings.Contains(body, `"error"`) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if code, _ := s.call("POST", base+"symbol", "0x1"); code != 405 {
		t.Errorf("POST: %d", code)
	}
}
