package web

import (
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	s := start(t, nil)
	for _, c := range []struct {
		method, path, body string
		code               int
		answer             string
	}{
		{"GET", "/api/v1/keys", "", 200, `{"node":"","keys":[{"key":"a","files":3}]`},
		{"GET", "/api/v1/keys?node=n", "", 200, `Rewrap:false NewKey:false`},
		{"GET", "/api/v1/keys?node=nobody", "", 400, "no such node"},
		{"POST", "/api/v1/keys/rotate", `{"node": "n", "new_key": true}`, 200, `Rewrap:true NewKey:true`},
		{"POST", "/api/v1/keys/rotate", `{}`, 200, `Rewrap:true NewKey:false`},
		{"POST", "/api/v1/keys/rotate", `{"key": "mine"}`, 400, "unknown field"},
		{"PUT", "/api/v1/keys/rotate", `{}`, 405, "there is no"},
	} {
		if code, b := s.call(c.method, c.path, c.body); code != c.code || !strings.Contains(b, c.answer) {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, code, b)
		}
	}
	if res, _ := s.ask("GET", "/api/v1/keys", ""); res.StatusCode != 401 {
		t.Errorf("without a token: %d", res.StatusCode)
	}
}
