package web

import (
	"strings"
	"testing"

	"hongyan/cluster/wire"
)

func TestRecover(t *testing.T) {
	s := start(t, nil)
	if code, body := s.call("GET", "/api/v1/recover", ""); code != 200 || !strings.Contains(body, `"silent":["north"]`) || !strings.Contains(body, `"job":null`) {
		t.Errorf("%d %s", code, body)
	}
	if code, body := s.call("POST", "/api/v1/recover", `{"lost": ["north"]}`); code != 202 || !strings.Contains(body, `"lost":["north"]`) {
		t.Errorf("%d %s", code, body)
	}
	s.admin.err = wire.Errorf(wire.Invalid, "every shard has a majority")
	if code, body := s.call("POST", "/api/v1/recover", `{"lost": ["north"]}`); code != 400 || !strings.Contains(body, "every shard has a majority") {
		t.Errorf("%d %s", code, body)
	}
}
