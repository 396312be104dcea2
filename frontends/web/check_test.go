package web

import (
	"strings"
	"testing"

	"hongyan/cluster/client"
	"hongyan/cluster/wire"
)

func TestCheckAccount(t *testing.T) {
	s := start(t, nil)
	if code, body := s.call("POST", "/api/v1/accounts/u%40a.test/check", `{"repair": true, "after": {"folder": 1, "uid": 7}}`); code != 200 || !strings.Contains(body, `"address":"u@a.test"`) ||
		!strings.Contains(body, `"uid":7`) || !strings.Contains(body, `"mended":true`) {
		t.Errorf("%d %s", code, body)
	}
	if code, body := s.call("POST", "/api/v1/accounts/u%40a.test/check", `{"mend": true}`); code != 400 {
		t.Errorf("%d %s", code, body)
	}
	for err, want := range map[error]int{wire.Errorf(wire.NotFound, "there is no account"): 400, client.ErrUnavailable: 503} {
		s.admin.err = err
		if code, body := s.call("POST", "/api/v1/accounts/u%40a.test/check", `{}`); code != want {
			t.Errorf("%v: %d %s", err, code, body)
		}
	}
}
